"""Curves in bulk and line by line: one meaning, whatever the lines hold."""

import csv
import dataclasses
import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.merge import reading
from bench.merge.reading import Curve, Damage, read_curves
from bench.records.rows import as_line, bounded

FIGURES = (
    *("tokens", "train_time_s", "train_loss", "val_loss"),
    *("expert_load_max", "router_entropy"),
)
COLUMNS = ("run_id", "host_id", "attempt", "step", *FIGURES)  # what the report reads
HEADER = ",".join(COLUMNS).encode() + b"\n"

figures = st.one_of(st.none(), st.floats(), st.integers(-(2**53), 2**53))
sound_lines = st.tuples(
    st.sampled_from(["0a1b", "ffff", "é"]),
    st.sampled_from(["host", ""]),
    st.integers(1, 2),
    st.integers(-5, 5),
    *[figures] * len(FIGURES),
).map(lambda fields: as_line(fields).encode())
# What pyarrow and Python could take for different things.
oddities = st.sampled_from(
    [b"0x1A", b"nan(1)", b"1_0", b" 7", b"+7", b"1e999", b"inf", b"NA", b"7.", b"", b'"7"', b"7\r"]
)
odd_lines = st.builds(
    lambda place, odd: (
        b",".join([*[b"1"] * place, odd, *[b"1"] * (len(COLUMNS) - 1 - place)]) + b"\n"
    ),
    st.integers(0, len(COLUMNS) - 1),
    oddities,
)
damaged_lines = st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"") + b"\n")
lines_of_any_kind = st.lists(st.one_of(sound_lines, odd_lines, damaged_lines), max_size=12)


def curves_of(content: bytes) -> tuple[dict, list[Damage]]:
    with TemporaryDirectory() as folder:
        path = Path(folder, "curves.csv")
        path.write_bytes(HEADER + content)
        return read_curves(path, "here")


def reference(lines: list[bytes]) -> tuple[dict, list[int]]:
    """Key -> step -> figures, line by line and number by number; the numbers of damaged lines."""
    found: dict[tuple, dict[int, tuple]] = {}
    damaged = []
    for number, line in enumerate(lines, start=2):
        try:
            (fields,) = csv.reader([line.removesuffix(b"\n").decode()], strict=True) or [[]]
            if len(fields) != len(COLUMNS):
                raise ValueError
            step = int(fields[3])
            values = [float(text) if text else math.nan for text in fields[4:]]
        except (ValueError, csv.Error):
            damaged.append(number)
            continue
        finite = tuple(bounded(value) if math.isfinite(value) else math.nan for value in values)
        found.setdefault(tuple(fields[:3]), {})[step] = finite
    return found, damaged


def same(curve: Curve, evaluations: dict[int, tuple]) -> bool:
    expected = [(step, *evaluations[step]) for step in sorted(evaluations)]
    table = np.column_stack([getattr(curve, field.name) for field in dataclasses.fields(Curve)])
    return np.array_equal(table, np.array(expected, dtype=float), equal_nan=True)


@settings(max_examples=300, deadline=None)
@given(lines_of_any_kind)
def test_every_sound_line_is_an_evaluation_and_every_other_is_counted(lines):
    expected, damaged = reference(lines)
    curves, damage = curves_of(b"".join(lines))
    assert curves.keys() == expected.keys()
    assert all(same(curve, expected[which]) for which, curve in curves.items())
    told = [(one.file, one.line, one.lines) for one in damage]
    assert told == ([("here/curves.csv", damaged[0], len(damaged))] if damaged else [])


@settings(max_examples=100, deadline=None)
@given(st.lists(sound_lines, min_size=1, max_size=12))
def test_sound_lines_are_read_in_bulk(lines):
    """The former test alone would pass with everything read line by line."""
    expected, _ = reference(lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "_line_by_line", lambda *_: pytest.fail("line by line"))
        curves, damage = curves_of(b"".join(lines))
    assert damage == []
    assert curves.keys() == expected.keys()
    assert all(same(curve, expected[which]) for which, curve in curves.items())


def test_columns_that_are_missing_are_unknown_and_others_do_not_matter(tmp_path):
    path = tmp_path / "curves.csv"
    path.write_text("note,val_loss,step,attempt,host_id,run_id\nx,2.5,7,1,h,r\n")
    curves, damage = read_curves(path, "here")
    assert damage == []
    assert same(curves["r", "h", "1"], {7: (*[math.nan] * 3, 2.5, *[math.nan] * 2)})


@pytest.mark.parametrize("content", [None, b"", HEADER, HEADER[:-1]])
def test_no_lines_no_curves(tmp_path, content):
    if content is not None:
        (tmp_path / "curves.csv").write_bytes(content)
    assert read_curves(tmp_path / "curves.csv", "here") == ({}, [])
