"""Rows reach the disk whole or not at all, and a damaged file says where."""

import csv
import math
import os
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.errors import RecordError
from bench.records.columns import RUN_COLUMNS
from bench.records.rows import (
    RunsTable,
    as_field,
    as_line,
    read_runs,
    read_table,
    write_atomically,
    write_table,
)
from bench.records.tables import CURVE_COLUMNS, PLAN_COLUMNS

STEADY = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def row(run_id: str, attempt: int = 1, **more: object) -> dict[str, object]:
    return {"run_id": run_id, "attempt": attempt, "status": "ok", **more}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.csv"


def run_ids(path: Path) -> list[str]:
    return [found["run_id"] for found in read_table(path)]


# --- Files that passed through other hands ------------------------------------------------------


def test_a_byte_order_mark_is_no_part_of_the_first_column(path):
    """Excel writes it before UTF-8, and ends lines with a carriage return as well."""
    RunsTable(path).append(row("a"))
    content = path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + content)
    assert run_ids(path) == ["a"]
    RunsTable(path).append(row("b", 2))
    assert [(found["run_id"], found["attempt"]) for found in read_runs(path)] == [
        ("a", "1"),
        ("b", "2"),
    ]


@pytest.mark.parametrize("attempt", ["", "x", "1.0", "-1", "²"])
def test_a_row_whose_attempt_is_no_number_is_named_with_its_line(path, attempt):
    runs = RunsTable(path)
    runs.append(row("a"))
    runs.append(row("b") | {"attempt": attempt})
    told = re.escape(f"{path}:3: attempt is {as_field(attempt)!r}, not a whole number. Put the")
    for read in (read_runs, RunsTable):
        with pytest.raises(RecordError, match=told):
            read(path)


# --- Fields -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "field"),
    [
        (None, ""),
        (True, "true"),
        (False, "false"),
        (0, "0"),
        (2**63, "9223372036854775808"),
        (0.1 + 0.2, "0.30000000000000004"),
        (1e-8, "1e-08"),
        (5e-324, "5e-324"),
        (-0.0, "-0.0"),
        (3600.0, "3600.0"),
        (math.nan, "nan"),
        (math.inf, "inf"),
        ("", ""),
        ("plain", "plain"),
        ("two\nlines", "two lines"),
        ("a\r\n\tb", "a b"),
        (" around ", "around"),
        ("line\u2028paragraph\u2029form\x0cfeed\x85next", "line paragraph form feed next"),
        (Path("cells/a"), "cells/a"),
    ],
)
def test_a_value_becomes_one_field(value, field):
    assert as_field(value) == field


@STEADY
@given(st.floats(allow_nan=False))
def test_a_float_reads_back_to_the_same_number(value):
    assert float(as_field(value)) == value


@STEADY
@given(st.text() | st.text(alphabet=" \",\n\r\t\x00;\u2028\x85\x1c'=a", min_size=1))
def test_any_text_is_one_physical_line_and_reads_back_up_to_white_space(text):
    """And up to the apostrophe of what a spreadsheet would run: see test_security.py."""
    line = as_line(["first", text, "last"])
    assert line.endswith("\n")
    assert len(line.splitlines()) == 1
    first, field, last = next(csv.reader([line]))
    plain = " ".join(text.split())
    assert (first, last) == ("first", "last")
    assert field in (plain, f"'{plain}")


@STEADY
@given(reason=st.text(max_size=40))
@example(reason='"')
@example(reason="a,b")
@example(reason="\0")
def test_any_reason_can_be_committed_and_read(tmp_path_factory, reason):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.unlink(missing_ok=True)
    runs = RunsTable(path)
    runs.append(row("first", reason=reason))
    runs.append(row("second"))
    assert path.read_bytes().count(b"\n") == 3
    assert run_ids(path) == ["first", "second"]
    assert read_table(path) == runs.rows


def test_a_reason_with_half_a_character_can_be_committed(path):
    """Python reads a file name that is not UTF-8 so, and an error may quote it."""
    runs = RunsTable(path)
    runs.append(row("a", reason="no such file: caf\udce9.txt"))
    assert run_ids(path) == ["a"]
    assert "no such file: caf" in read_table(path)[0]["reason"]


def test_a_reason_as_long_as_a_log_can_be_committed_and_read(path):
    RunsTable(path).append(row("a", reason="x" * 200_000))
    assert run_ids(path) == ["a"]


def test_columns_of_all_tables_are_known_by_their_meaning():
    for columns in (RUN_COLUMNS, PLAN_COLUMNS, CURVE_COLUMNS):
        assert all(columns.values())
        assert all(name.isidentifier() for name in columns)


# --- Whole files --------------------------------------------------------------------------------


def test_write_atomically_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "file.txt"
    write_atomically(path, "one\n")
    write_atomically(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_until_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")
    seen = []
    fsync = os.fsync

    def watch(handle: int) -> None:
        name = os.readlink(f"/proc/self/fd/{handle}")
        seen.append((Path(name) == tmp_path, path.read_text()))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", watch)
    write_atomically(path, "new")
    assert seen == [(False, "old"), (True, "new")]  # the file, then the folder that names it


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_write_that_fails_keeps_the_old_file_and_leaves_no_part(tmp_path, monkeypatch, call):
    path = tmp_path / "file.txt"
    write_atomically(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*((os, "fsync", full) if call == "fsync" else (Path, "replace", full)))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_table_reads_back(tmp_path):
    path = tmp_path / "table.csv"
    write_table(path, ["a", "b"], [{"a": 1, "b": 0.5}, {"b": True, "c": "not a column"}, {}])
    assert path.read_bytes() == b"a,b\n1,0.5\n,true\n,\n"
    assert read_table(path) == [
        {"a": "1", "b": "0.5"},
        {"a": "", "b": "true"},
        {"a": "", "b": ""},
    ]


@pytest.mark.parametrize("content", [None, b"", b"run_id,atte", b"run_id,attempt\n"])
def test_no_rows_where_nothing_is_complete(path, content):
    if content is not None:
        path.write_bytes(content)
    assert read_table(path) == []


# --- runs.csv -----------------------------------------------------------------------------------


def test_a_new_file_has_the_header_alone(path):
    assert RunsTable(path).rows == []
    assert path.read_text() == ",".join(RUN_COLUMNS) + "\n"


def test_what_is_not_known_is_empty(path):
    runs = RunsTable(path)
    runs.append(row("a", wall_time_s=1.5, git_dirty=False, reason=None))
    (found,) = read_table(path)
    filled = {name: value for name, value in found.items() if value}
    assert filled == {
        "run_id": "a",
        "attempt": "1",
        "status": "ok",
        "wall_time_s": "1.5",
        "git_dirty": "false",
    }
    assert list(found) == list(RUN_COLUMNS)
    assert runs.rows == [found]


def test_a_column_that_does_not_exist_is_not_dropped_silently(path):
    runs = RunsTable(path)
    with pytest.raises(AssertionError, match=r"no such columns in runs.csv: \['walltime'\]"):
        runs.append(row("a", walltime=1))
    assert run_ids(path) == []


def test_a_row_is_on_the_disk_when_append_returns(path, monkeypatch):
    runs = RunsTable(path)
    calls = []
    write, fsync = os.write, os.fsync

    def watch_write(handle: int, content: bytes) -> int:
        calls.append(("write", handle, content.count(b"\n")))
        return write(handle, content)

    def watch_fsync(handle: int) -> None:
        calls.append(("fsync", handle, path.read_bytes().count(b"\n")))
        fsync(handle)

    monkeypatch.setattr(os, "write", watch_write)
    monkeypatch.setattr(os, "fsync", watch_fsync)
    runs.append(row("a"))
    handle = calls[0][1]
    assert calls == [("write", handle, 1), ("fsync", handle, 2)]  # one write, then to the disk


def test_a_row_whose_fsync_fails_is_not_reported_as_committed(path, monkeypatch):
    runs = RunsTable(path)

    def fail(handle: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(RecordError, match="Input/output"):
        runs.append(row("a"))
    assert runs.rows == []


def test_rows_of_a_cell_come_oldest_attempt_first(path):
    runs = RunsTable(path)
    for run_id, attempt in [("a", 10), ("b", 1), ("a", 9), ("a", 1)]:
        runs.append(row(run_id, attempt))
    for table in (runs, RunsTable(path)):
        assert [found["attempt"] for found in table.of("a")] == ["1", "9", "10"]
        assert [found["attempt"] for found in table.of("b")] == ["1"]
        assert table.of("c") == []


def test_two_openings_see_the_same_rows(path):
    first = RunsTable(path)
    first.append(row("a", reason='said "no", twice'))
    again = RunsTable(path)
    again.append(row("b"))
    assert RunsTable(path).rows == [*first.rows, again.rows[-1]]


# --- After a crash ------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_file_cut_anywhere_keeps_its_complete_rows_and_takes_the_next(path):
    """Every byte position, also within a character of several bytes and within quotes."""
    runs = RunsTable(path)
    runs.append(row("a", reason='größer, "5 ≥ 3"'))
    runs.append(row("b", reason="ok"))
    whole = path.read_bytes()
    header = whole.index(b"\n") + 1
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        kept = ["a", "b"][: max(0, whole[:length].count(b"\n") - 1)]
        assert run_ids(path) == kept

        RunsTable(path).append(row("c"))
        assert run_ids(path) == [*kept, "c"]
        content = path.read_bytes()
        assert content[:header] == whole[:header]
        assert content.count(b"\n") == len(kept) + 2
        assert content.endswith(b"\n")
    assert kept == ["a", "b"]


def append_in_part(
    runs: RunsTable, row: dict[str, object], monkeypatch, told: str = "the cell is still open"
) -> None:
    """As on a disk that is full: the first bytes of the row arrive."""
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, content: write(handle, content[:9]))
        with pytest.raises(RecordError, match=rf"only a part of a row.*{told}"):
            runs.append(row)


def test_a_row_that_the_disk_took_in_part_is_no_row(path, monkeypatch):
    runs = RunsTable(path)
    runs.append(row("a"))
    append_in_part(runs, row("b"), monkeypatch)
    assert run_ids(path) == ["a"]
    assert [found["run_id"] for found in runs.rows] == ["a"]
    RunsTable(path).append(row("c"))
    assert run_ids(path) == ["a", "c"]


def test_the_next_append_to_the_same_table_removes_a_torn_row_first(path, monkeypatch):
    runs = RunsTable(path)
    runs.append(row("a"))
    append_in_part(runs, row("b"), monkeypatch)
    runs.append(row("c"))
    assert run_ids(path) == ["a", "c"]


# --- Other versions and damage ------------------------------------------------------------------


def test_a_header_that_has_grown_keeps_old_rows(path):
    older = [name for name in RUN_COLUMNS if name not in ("tainted", "stage")]
    write_table(path, older, [row("a", reason="x, y"), row("b", 2)])
    RunsTable(path).append(row("c", stage="train"))
    rows = read_table(path)
    assert path.read_text().splitlines()[0] == ",".join(RUN_COLUMNS)
    assert [(r["run_id"], r["attempt"], r["reason"], r["stage"]) for r in rows] == [
        ("a", "1", "x, y", ""),
        ("b", "2", "", ""),
        ("c", "1", "", "train"),
    ]
    assert list(path.parent.iterdir()) == [path]


def test_rows_of_an_older_file_have_all_columns_at_once(path):
    older = [name for name in RUN_COLUMNS if name != "code_sha256"]
    write_table(path, older, [row("a")])
    (found,) = RunsTable(path).rows
    assert found["code_sha256"] == ""
    assert list(found) == list(RUN_COLUMNS)


def test_an_older_file_whose_columns_were_in_another_order_reads_the_same(path):
    write_table(path, reversed(RUN_COLUMNS), [row("a", seed=7)])
    assert RunsTable(path).of("a")[0]["seed"] == "7"
    assert path.read_text().splitlines()[0] == ",".join(RUN_COLUMNS)


def test_a_file_of_a_newer_version_is_refused_and_left_alone(path):
    write_table(path, [*RUN_COLUMNS, "of_tomorrow"], [row("a")])
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"unknown columns of_tomorrow\. A newer version"):
        RunsTable(path)
    assert path.read_bytes() == before


def test_a_file_that_is_none_of_ours_is_refused_and_left_alone(path):
    path.write_text("date,amount\n2024-01-01,5\n")
    with pytest.raises(RecordError, match=r"runs\.csv"):
        RunsTable(path)
    assert path.read_text() == "date,amount\n2024-01-01,5\n"


@pytest.mark.parametrize(
    "damage",
    [
        b"abc",
        b"",
        b"x," * 300,
        b'"' + b"," * (len(RUN_COLUMNS) - 1),
        b"," * (len(RUN_COLUMNS) - 1) + b'"',
        b"\xff\xfe" + b"," * (len(RUN_COLUMNS) - 1),
    ],
    ids=["cut", "empty", "too many fields", "open quote", "open quote at the end", "not UTF-8"],
)
def test_a_damaged_line_in_the_middle_is_named_with_its_number(path, damage):
    runs = RunsTable(path)
    for run_id in "abcd":
        runs.append(row(run_id))
    lines = path.read_bytes().split(b"\n")
    lines[2] = damage  # line 3: b's
    path.write_bytes(b"\n".join(lines))
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"runs\.csv:3: "):
        RunsTable(path)
    assert path.read_bytes() == before
