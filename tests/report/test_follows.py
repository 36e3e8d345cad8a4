"""A published report beside the one of its CSVs: every difference that is not a picture's."""

import base64
import gzip
import io
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from bench.report.build import build_report
from bench.report.verify import compare_reports
from tests.builders.shared import ROOT


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a real results folder."""
    name = "original-cpu"
    folder = shutil.copytree(ROOT / "results" / name, tmp_path_factory.mktemp("from") / name)
    build_report([folder], folder / "report")
    return folder / "report"


@pytest.fixture
def published(rebuilt: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return Path(shutil.copytree(rebuilt, tmp_path / "report"))


def change(file: Path, by: Callable[[str], str]) -> None:
    before = file.read_text()
    after = by(before)
    assert after != before
    file.write_text(after)


def test_the_same_report_follows_and_its_pictures_are_not_compared(
    published: Path, rebuilt: Path
) -> None:
    for picture in (*published.glob("*.png"), *published.glob("*.svg")):
        picture.write_bytes(b"of other fonts")
    wrong, unchecked = compare_reports(published, rebuilt)
    assert wrong == {}
    names = {path.name for path in published.iterdir()}
    tables = {"index.html", "report.md", "runs.parquet", "summary.csv"}
    assert set(unchecked) == names - tables
    assert len(names) > 20


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"arrays":[[0,', '"arrays":[[1,'),  # a point of an interactive curve
        ('"seed":"1"', '"seed":"2"'),
        ('" alt="', '" alt="All arms are better. '),
        ('"use strict";', '"use strict"; '),
        ("script-src", "script-src &#39;unsafe-inline&#39;"),
        ("<h1>", '<img src="data:image/png;base64,AAAA" alt=""><h1>'),
        ("<h1>", '<p><a href="pareto.png">Everything is better</a></p><h1>'),
    ],
)
def test_whatever_is_no_picture_on_the_page_is_compared(
    old: str, new: str, published: Path, rebuilt: Path
) -> None:
    change(published / "index.html", lambda page: page.replace(old, new, 1))
    wrong, _ = compare_reports(published, rebuilt)
    assert list(wrong) == ["index.html"]
    assert wrong["index.html"].startswith("does not follow from the CSVs: line ")


def test_of_a_long_line_the_place_that_differs_is_shown(tmp_path: Path) -> None:
    line = "a sentence of the report that has not a single comma and ends with the word"
    for name, word in (("published", "worse"), ("rebuilt", "better")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "report.md").write_text(f"{line} {word}")
    wrong, _ = compare_reports(tmp_path / "published", tmp_path / "rebuilt")
    assert wrong["report.md"] == (
        "does not follow from the CSVs: line 1 says 'comma and ends with the word worse', the "
        "CSVs 'comma and ends with the word better'"
    )


def test_the_script_of_the_curves_is_compared_unpacked(published: Path, rebuilt: Path) -> None:
    """Another zlib packs it into other bytes."""
    page = (published / "index.html").read_text()
    packed = re.search('id="plotly">([^<]*)<', page)
    assert packed
    script = gzip.decompress(base64.b64decode(packed[1]))
    for content, wrong in ((script, []), (script + b" ", ["index.html"])):
        other = base64.b64encode(gzip.compress(content, 1)).decode()
        (published / "index.html").write_text(page.replace(packed[1], other))
        assert list(compare_reports(published, rebuilt)[0]) == wrong


def test_a_picture_on_the_page_may_be_another_or_lie_beside_it(
    published: Path, rebuilt: Path
) -> None:
    """With the sizes of pictures it differs which of them the page has room for."""

    def linked(found: re.Match[str]) -> str:
        return (
            f'<p><a href="pareto-2.png" title="{found[1]}">pareto-2.png</a> lies beside this page, '
            "which holds no more pictures.</p>"
        )

    picture = re.compile('<div class="picture"><img src="[^"]*" alt="([^"]*)"></div>')
    change(published / "index.html", lambda page: picture.sub(linked, page))
    assert compare_reports(published, rebuilt)[0] == {}
    change(published / "index.html", lambda page: page.replace('title="', 'title="not ', 1))
    assert list(compare_reports(published, rebuilt)[0]) == ["index.html"]


def test_rows_are_compared_by_their_content(published: Path, rebuilt: Path) -> None:
    file = published / "runs.parquet"
    frame = pd.read_parquet(file)
    same = as_parquet(frame, "gzip")  # as another version may write it
    frame.loc[2, "val_loss_final"] = 1.0001
    for content, told in (
        (same, ""),
        (as_parquet(frame), "row 3, column val_loss_final says 1.0001, the CSVs "),
        (b"no parquet", "cannot be read (ArrowInvalid)"),
        (as_parquet(frame.iloc[1:]), "it has other rows or columns"),
    ):
        file.write_bytes(content)
        wrong, _ = compare_reports(published, rebuilt)
        assert list(wrong) == (["runs.parquet"] if told else [])
        assert told in wrong.get("runs.parquet", "")


def as_parquet(frame: pd.DataFrame, compression: Literal["gzip", "snappy"] = "snappy") -> bytes:
    content = io.BytesIO()
    frame.to_parquet(content, index=False, compression=compression)
    return content.getvalue()
