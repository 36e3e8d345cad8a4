"""The details of one run on the page: read up to a limit, never out of their folder."""

import os
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.merge.merging import merge
from bench.merge.raw import file_of
from bench.report.page import cells
from bench.report.page.cells import MOST_LOG, anchors, cell_views, flat, shortened
from bench.report.page.content import CellView
from tests.builders import pages as page_results
from tests.builders.results import Results, two_arms

# --- cells


def detail(folder: Results, content: bytes | None = None, **fields) -> CellView:
    """Of the only cell of a folder, whose log has this content."""
    run_id = page_results.plan(folder, "nanogpt", "adamw", 1)
    page_results.end(folder, run_id, (1.7, 12.0, 1000), 1, **fields)
    page_results.finished(folder)
    if content is not None:
        (folder.path / str(folder.runs[0]["log_path"])).write_bytes(content)
    (view,) = cell_views(merge([folder.path]), folder.path / "report")
    return view


def test_a_cell_tells_its_settings_environment_figures_and_log(new):
    view = detail(new())
    facts = dict(view.facts)
    assert facts["Configuration: model"].startswith("name nanogpt, base nanogpt, options (n_embd")
    assert "torch_version 2.13.0+cpu" in facts["Environment"]
    assert "affinity 0, variables (OMP_NUM_THREADS 1)" in facts["Environment"]
    assert "pages of it" not in facts["Environment"]
    assert "train 1" in facts["Phases (s)"]
    assert "val. loss, final 1." in facts["Figures"]
    lines = view.log.splitlines()
    assert len(lines) == 20
    assert lines[-1] == "step 2900: a line of the log"
    assert view.about_log == "The end of it; earlier lines are left out."
    names = ["worker.log", "spec.json", "result.json", "env.json"]
    assert [file.text for file in view.files] == names


@pytest.mark.parametrize(
    ("content", "last", "about"),
    [
        (b"", "", "The log is empty."),
        (b"\n\n", "", "The log is empty."),
        (b"one\r\ntwo\n", "one\ntwo", ""),
        (b"one\rtwo", "one\ntwo", ""),
        (b"\xff\xfe<b>\x00\x1b[31m", "\ufffd\ufffd<b>\ufffd\ufffd[31m", ""),
    ],
)
def test_logs_of_every_kind(new, content, last, about):
    view = detail(new(), content)
    assert (view.log, view.about_log) == (last, about)


def test_of_a_huge_log_the_tail_alone_is_read(new, monkeypatch):
    read = []
    monkeypatch.setattr(cells, "TAIL", 1000)
    monkeypatch.setattr(cells, "_last", lambda lines: read.extend(lines) or lines[-1:])
    view = detail(new(), b"x" * 10_000_000 + b"\nthe end\n")
    assert sum(map(len, read)) <= 1000
    assert view.log == "the end"
    assert view.about_log == "The end of it; earlier lines are left out."


def test_long_lines_are_cut_and_the_whole_stays_within_its_limit(new):
    view = detail(new(), (b"<" * 5000 + b"\n") * 50)
    shown = view.log.splitlines()
    assert 1 <= len(shown) < 20
    assert all(line.endswith("…") for line in shown)
    assert sum(4 * line.count("<") for line in shown) <= MOST_LOG


def test_a_log_outside_of_the_folder_is_not_read(new, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "worker.log").write_text("secret")
    for index, path in enumerate(("../secret/worker.log", str(tmp_path / "secret/worker.log"))):
        folder = new(f"folder{index}")
        run_id = folder.planned()
        folder.ended(run_id, log_path=path)
        (view,) = cell_views(merge([folder.write()]), folder.path / "report")
        assert (view.log, view.about_log, view.files) == ("", "The log is not there.", ())


def test_links_out_of_the_folder_are_not_followed(new, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text('{"model": "secret"}')
    folder = new()
    detail(folder)
    log = folder.path / str(folder.runs[0]["log_path"])
    for file in (log, log.parent / "spec.json"):
        file.unlink()
        file.symlink_to(secret)
    os.mkfifo(log.parent / "samples.csv")
    (view,) = cell_views(merge([folder.path]), folder.path / "report")
    assert view.about_log == "The log is not there."
    assert dict(view.facts)["Configuration"] == "spec.json is not there, or cannot be read."
    assert [file.text for file in view.files] == ["result.json", "env.json"]
    assert "secret" not in repr(view)


def test_names_that_no_file_can_have(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    for name in ("a\0b", "x" * 5000, "loop", "loop/a", "", "."):
        assert file_of(tmp_path, tmp_path / name) is None


@pytest.mark.parametrize(
    "content", [b"", b"[1]", b"{", b"\xff", b'{"model": ' + b"[" * 100_000, b"[" * 900 + b"]" * 900]
)
def test_damaged_specs_say_so(new, content):
    folder = new()
    detail(folder)
    spec = (folder.path / str(folder.runs[0]["log_path"])).parent / "spec.json"
    spec.write_bytes(content)
    (view,) = cell_views(merge([folder.path]), folder.path / "report")
    assert dict(view.facts)["Configuration"] == "spec.json is not there, or cannot be read."


def test_json_on_one_line():
    value = {"a": 1, "b": {"c": [1, 2], "d": True}, "e": [], "f": None, "g": "x"}
    assert flat(value) == "a 1, b (c 1 2, d true), e none, f null, g x"
    assert flat({"a": {"b": {"c": {"d": {"e": 1}}}}}) == "a (b (c (d (…))))"


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(10, 60))
def test_shortened_texts_fit(text, limit):
    short = shortened(text, limit)
    assert cells._size(short) <= limit
    assert len(short) == len(text) or short.endswith("…")


def test_cells_of_one_name_have_anchors_of_their_own(new):
    first, second = two_arms(new("a")), two_arms(new("b"))
    for row in second.runs:
        row["host_id"] = "host2"
    found = anchors(merge([first.write(), second.write()]).cells)
    assert len(set(found)) == 8
    assert found[0] == "cell-gpt-adamw-cpu-1-1"
    assert found[4] == "cell-gpt-adamw-cpu-1-1--2"
    assert all(re.fullmatch("cell-[A-Za-z0-9_-]+", anchor) for anchor in found)
