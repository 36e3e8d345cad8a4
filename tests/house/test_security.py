"""Hostile names, texts and links: refused, or harmless in paths, commands, CSVs and the page.

test_isolation.py has what a hostile cell can do from inside, test_sources.py what no source does.
"""

import csv
import math
import os
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.border.atomic import replacing, write_atomically
from bench.matrix.forms import AXES
from bench.records.rows import as_field, as_line, read_table, write_table
from tests.builders.shared import ROOT, bench

STEADY = settings(max_examples=500, deadline=None, derandomize=True, database=None)

# --- Names --------------------------------------------------------------------------------------

HOSTILE = [
    "a'; touch x",
    "$(touch x)",
    "`touch x`",
    "../../x",
    "/x",
    "..",
    "-rf",
    "a\nb",
    "\x1b[31m",
]
HOSTILE += [
    "x" * 300,
    "=cmd()",
    "+1",
    "@x",
    "<img src=x onerror=alert(1)>",
    "{{ 7 * 7 }}",
    "%s",
    " ",
]


def matrix_of(name: str) -> str:
    """A name in every place of a matrix where one can be written."""
    cell = {"model": name, "optimizer": name, "device": name, "seed": name}
    content = {
        "name": name,
        "data": {"corpus": "input.txt"},
        "train": {"dtype": name, name: 1},
        "eval": {"protocol": name},
        "matrix": {axis: [value] for axis, value in cell.items()},
        "exclude": [cell],
        "include": [cell],
        "models": {name: {"base": "nanogpt"}, "of": {"base": name}},
        "optimizers": {name: {"base": "adamw"}, "of": {"base": name}},
        "limits": {name: 1},
        "claim": {"baseline": {"model": name, "optimizer": name}, "metric": name, "margin": 0.1},
        name: 1,
    }
    return yaml.safe_dump(content, sort_keys=False)


PLACES = ["name", "train.dtype", "eval.protocol", "models.of", "optimizers.of", "claim.metric"]
PLACES += [f"matrix.{axis}[0]" for axis in AXES]
PLACES += [f"{section}[0].{axis}" for section in ("exclude", "include") for axis in AXES]
PLACES += [f"claim.baseline.{axis}" for axis in ("model", "optimizer")]
KEYED = ["train", "models", "optimizers", "limits"]  # here it is a key


def files_of(*folders: Path) -> set[Path]:
    return {path for folder in folders for path in folder.iterdir()}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_wherever_a_matrix_can_hold_one(
    tmp_path: Path, name: str
) -> None:
    file = tmp_path / "matrix.yaml"
    file.write_text(matrix_of(name))
    before = files_of(ROOT, tmp_path, tmp_path.parent)
    answer = bench("run", file, "--out", tmp_path / "out")
    assert answer.returncode == 2
    shown = repr(name)[1:-1]
    for place in [*PLACES, *(f"{key}.{shown}" for key in KEYED), shown]:
        assert f": {place}: " in answer.stderr, place
    assert all(line.isprintable() for line in answer.stderr.split("\n"))
    assert files_of(ROOT, tmp_path, tmp_path.parent) == before


@pytest.mark.parametrize("option", ["--only", "--only=model", "--shard", "--runtime"])
@pytest.mark.parametrize("name", HOSTILE[:4])
def test_a_hostile_choice_is_refused(tiny_matrix: Path, option: str, name: str) -> None:
    before = files_of(ROOT, tiny_matrix.parent)
    given = [f"{option}={name}"] if "=" in option else [option, name]
    answer = bench("run", tiny_matrix, "--out", tiny_matrix.parent / "out", *given)
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ")
    assert files_of(ROOT, tiny_matrix.parent) == before


@pytest.mark.parametrize("name", ["a\nb", "\x1b[31m", "a\0b", "x" * 300])
def test_a_corpus_that_no_message_could_show_or_no_disk_could_hold_is_refused(
    tiny_matrix: Path, name: str
) -> None:
    before = files_of(ROOT, tiny_matrix.parent)
    content = yaml.safe_load(tiny_matrix.read_text())
    tiny_matrix.write_text(yaml.safe_dump({**content, "data": {"corpus": f"/{name}"}}))
    answer = bench("run", tiny_matrix, "--out", tiny_matrix.parent / "out")
    assert answer.returncode == 2
    assert "corpus" in answer.stderr
    assert all(line.isprintable() for line in answer.stderr.split("\n"))
    assert files_of(ROOT, tiny_matrix.parent) == before


def test_a_folder_that_no_disk_could_hold_is_refused(tiny_matrix: Path) -> None:
    answer = bench("run", tiny_matrix, "--out", tiny_matrix.parent / ("x" * 300))
    assert answer.returncode == 2
    assert "File name too long" in answer.stderr


class Tags(HTMLParser):
    """The elements of a page, and its plain text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["=cmd()'; `touch x`", '<img src=x onerror=alert(1)>, "$(touch x)": x,readonly']
)
def test_paths_with_hostile_names_are_harmless(
    tiny_matrix: Path, runtime: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such files and folders exist: a cell runs with them, and its row and page show them."""
    home = tiny_matrix.parent / 'a\'; touch x, "b": $(touch x)'
    out, text = home / f"{name}\n,readonly", home / name
    home.mkdir()
    text.write_text((tiny_matrix.parent / "text.txt").read_text())
    monkeypatch.setenv("BENCH_CACHE", str(home / "cache\n, 'c'"))
    content = {**yaml.safe_load(tiny_matrix.read_text()), "data": {"corpus": str(text)}}
    tiny_matrix.write_text(yaml.safe_dump(content))
    before = files_of(ROOT, tiny_matrix.parent)
    one = ["--only", "seed=1", "--only", "optimizer=adamw"]
    answer = bench("run", tiny_matrix, "--out", out, "--runtime", runtime, *one, "--report")
    assert answer.returncode == 0, answer.stderr
    assert files_of(ROOT, tiny_matrix.parent) == before
    assert files_of(home) == {out, text, home / "cache\n, 'c'"}
    (row,) = read_table(out / "runs.csv")
    assert row["corpus"] == (f"'{name}" if name[0] == "=" else name)
    for table in out.rglob("*.csv"):
        check_table(table)
    page = Tags((out / "report" / "index.html").read_text())
    assert name in page.text
    assert not {attribute for attribute in page.attributes if attribute.startswith("on")}
    assert "<img" not in (out / "report" / "report.md").read_text()


def check_table(table: Path) -> None:
    """Each line is a whole row, and a spreadsheet runs none of its fields."""
    lines = table.read_bytes().decode().splitlines()
    rows = [next(csv.reader([line], strict=True)) for line in lines]
    assert {len(row) for row in rows} == {len(rows[0])}, table
    assert [field for row in rows for field in row if is_formula(field)] == [], table


# --- Fields that a spreadsheet opens ------------------------------------------------------------


def is_formula(field: str) -> bool:
    """Whether a spreadsheet could take it for one: written apart from the code under test."""
    if field.lstrip("\0\1\x1b\x1f")[:1] not in {*"=+-@＝＋－＠\t\r\n"}:
        return False
    try:
        return math.isnan(float(field)) and "nan" not in field
    except ValueError:
        return True


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ("=cmd()", "'=cmd()"),
        ("+1 more", "'+1 more"),
        ("-rf", "'-rf"),
        ("-", "'-"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'=1"),
        ("\r\n=1", "'=1"),
        ("\0=1", "'\0=1"),
        ("＝1", "'＝1"),
        ("'=1", "'=1"),  # it was made harmless before, and is written again
        ("-1.5", "-1.5"),
        ("-1e-05", "-1e-05"),
        ("-inf", "-inf"),
        (-1.5, "-1.5"),
        (-7, "-7"),
        ("a=b", "a=b"),
        ("1-2", "1-2"),
    ],
)
def test_a_text_that_is_a_formula_gets_an_apostrophe_and_a_number_none(
    value: object, field: str
) -> None:
    assert as_field(value) == field


SIGNS = st.text(alphabet="=+-@＝＠'1.e\t\r\n\0 a", max_size=8)


def read_back(value: object) -> str:
    (field,) = next(csv.reader([as_line([value])], strict=True))
    return field


@STEADY
@given(text=st.text() | SIGNS)
@example(text="-1_0")
def test_any_text_reads_back_up_to_one_apostrophe_and_is_no_formula(text: str) -> None:
    plain, field = " ".join(text.split()), read_back(text)
    assert field == (f"'{plain}" if is_formula(plain) else plain)
    assert not is_formula(field)
    assert read_back(field) == field  # a rewrite changes nothing


@STEADY
@given(number=st.floats(allow_nan=False) | st.integers())
def test_any_number_reads_back_as_itself_also_after_a_rewrite(number: float) -> None:
    field = read_back(number)
    assert type(number)(field) == number
    assert read_back(field) == field


def test_a_file_that_is_rewritten_keeps_its_numbers_and_its_texts(tmp_path: Path) -> None:
    """As a header that has grown makes it happen: every field goes through text once more."""
    table = tmp_path / "table.csv"
    write_table(
        table, ["loss", "best", "text"], [{"loss": -1e-05, "best": -math.inf, "text": "=1"}]
    )
    rows = read_table(table)
    write_table(table, ["loss", "best", "text"], rows)
    assert read_table(table) == rows == [{"loss": "-1e-05", "best": "-inf", "text": "'=1"}]


# --- A folder that a worker owns ----------------------------------------------------------------


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Under which name a file is written before it is put in place, were it to be guessed."""
    monkeypatch.setattr(os, "urandom", bytes)
    return lambda path: path.with_name(f".{path.name}.{bytes(8).hex()}.partial")


def test_a_link_in_place_of_the_file_is_replaced_not_followed(tmp_path: Path) -> None:
    outside, path = tmp_path / "outside", tmp_path / "file.json"
    outside.write_text("untouched")
    path.symlink_to(outside)
    write_atomically(path, "new")
    assert (outside.read_text(), path.read_text()) == ("untouched", "new")
    assert not path.is_symlink()


@pytest.mark.parametrize("target", ["outside", "nowhere"])
def test_a_link_planted_under_the_very_name_is_refused(
    tmp_path: Path, known: Callable[[Path], Path], target: str
) -> None:
    outside, path = tmp_path / "outside", tmp_path / "cell" / "file.json"
    path.parent.mkdir()
    outside.write_text("untouched")
    known(path).symlink_to(tmp_path / target)
    with pytest.raises(FileExistsError):
        write_atomically(path, "new")
    assert outside.read_text() == "untouched"
    assert not (tmp_path / "nowhere").exists()


def test_no_two_writers_use_one_name(tmp_path: Path) -> None:
    """Also processes of the same number, on two hosts or in two containers."""
    path = tmp_path / "file.json"
    with replacing(path, lambda: path) as one, replacing(path, lambda: path) as other:
        one.write(b"one's")
        other.write(b"other's")
    assert path.read_text() == "one's"  # the last to end
    assert list(tmp_path.iterdir()) == [path]
