"""The CSVs of a results folder -> rows and curves. What is damaged is left out, and told.

A crash may have cut off the last line: what does not end with a line feed is no row. Fields are on
one physical line each, so that a damaged line never takes its neighbours with it.

runs.csv and plan.csv have thousands of lines, and are read one by one: that takes 40 µs a line.
curves.csv has a hundred times as many, and is read in bulk as long as nothing in it is unusual.
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from bench.errors import RecordError
from bench.records.columns import COLUMNS, STATUSES
from bench.records.kinds import NUMBER, TEXT, WHOLE
from bench.records.rows import LARGEST_FIGURE, Row, as_row, fields_of, without_mark

Array = NDArray[np.float64]
Which = tuple[str, str, str]  # run_id, host_id, attempt: whose curve it is

CURVE_KEYS = ("run_id", "host_id", "attempt")
CURVES_NEED = (*CURVE_KEYS, "step", "val_loss")
_CHECKED = {name: column.kind for name, column in COLUMNS.items() if column.kind != TEXT}
# What pyarrow reads in another way than line by line: quotes and carriage returns may join lines,
# an empty line passes for a row, 0x1A for a number and nan(1) for none.
UNUSUAL = (b'"', b"\r", b"\n\n", b"0x", b"0X", b"(")


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file; it was left out, the rest of the file was not."""

    file: str  # with its folder's name for readers, such as "original/runs.csv"
    line: int  # the first damaged one, from 1; 0: the whole file
    lines: int  # how many; 0: the whole file
    why: str  # of the first


class UnreadableError(RecordError):
    """A table of which no line can be told."""

    def __init__(self, path: Path, why: str, remedy: str) -> None:
        super().__init__(f"{path} {why}. {remedy}")
        self.file = path.name
        self.why = why


@dataclass(frozen=True, eq=False)
class Curve:
    """The evaluations of one attempt, in order of steps and one a step; NaN where unknown.

    All arrays have the shape (evaluations,). Nothing in them is infinite: an infinite loss has no
    mean and no place in a picture, and counts as unknown. Nothing is beyond ±LARGEST_FIGURE.
    """

    steps: Array  # training steps done
    tokens: Array  # training tokens seen
    train_time_s: Array  # training time so far, seconds
    train_loss: Array  # nats per token
    val_loss: Array  # nats per token
    expert_load_max: Array  # load of the busiest expert over an equal share
    router_entropy: Array  # nats

    def __len__(self) -> int:
        return len(self.steps)


CURVE_FIGURES = tuple(each.name for each in fields(Curve))[1:]  # of curves.csv, beside its step
NO_CURVE = Curve(*(np.empty(0) for _ in fields(Curve)))


def read_rows(
    path: Path, name: str, needed: Iterable[str], check: Callable[[Row], None]
) -> tuple[list[Row], list[Damage]]:
    """The rows of a table, every field as text, and its damage.

    `name` is its folder's, for readers. `check` raises ValueError for a row that cannot be used.
    Equal lines are one row (bench/records/rows.py says why).

    Raises:
        UnreadableError: if its header lacks what is needed, or the file cannot be read.
    """
    header, content = _open(path, needed)
    rows, bad, read = [], [], set()
    for number, line in enumerate(_lines(content), start=2):
        if line in read:
            continue
        try:
            row = as_row(header, line)
            check(row)
            rows.append(row)
            read.add(line)
        except ValueError as error:
            bad.append((number, str(error)))
    return rows, _damage(path, name, bad)


def check_fields(row: Row, *required: str) -> None:
    """Raises ValueError, with a message for readers, at a field that is not of its column's kind.

    Empty fields are unknown, but for those that are required; columns that an older version did
    not have are none.
    """
    for name in required:
        if not row[name]:
            raise ValueError(f"{name} is empty")
    for name, kind in _CHECKED.items():
        text = row.get(name)
        if text:
            try:
                kind.read(text)
            except ValueError:
                raise ValueError(f"{name} is {text!r}, not {kind.words}") from None


def check_status(row: Row) -> None:
    """Raises ValueError, with a message for readers, at a status that is not known."""
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}; known are {', '.join(STATUSES)}")


def read_curves(path: Path, name: str) -> tuple[dict[Which, Curve], list[Damage]]:
    """The curve of every attempt in a curves.csv, and its damage; no file: no curves.

    Of two lines for one step the last counts.
    """
    if not path.is_file():
        return {}, []
    try:
        header, content = _open(path, CURVES_NEED)
    except UnreadableError as error:
        return {}, [Damage(f"{name}/{path.name}", 0, 0, f"{error.why}; no curve of it is shown")]
    bad: list[tuple[int, str]] = []
    frame = _in_bulk(header, content)
    if frame is None:
        frame, bad = _line_by_line(header, _lines(content))
    return _curves(frame), _damage(path, name, bad)


def _open(path: Path, needed: Iterable[str]) -> tuple[list[str], bytes]:
    """A table's columns (none if the file is empty), and its complete lines after the header."""
    try:
        content = without_mark(path.read_bytes())
    except OSError as error:
        raise UnreadableError(
            path, f"cannot be read: {error.strerror}", "Make it readable, and report again."
        ) from error
    first, _, rest = content[: content.rfind(b"\n") + 1].partition(b"\n")
    if not first:
        return [], b""
    remedy = "Restore its header line."
    try:
        header = fields_of(first)
    except ValueError as error:
        raise UnreadableError(path, f"has a damaged header ({error})", remedy) from error
    if missing := [column for column in needed if column not in header]:
        raise UnreadableError(path, f"lacks the columns {', '.join(missing)}", remedy)
    return header, rest


def _lines(content: bytes) -> list[bytes]:
    return content.split(b"\n")[:-1]


def _damage(path: Path, name: str, bad: Sequence[tuple[int, str]]) -> list[Damage]:
    """Of (line number, why) in the order of the lines."""
    return [Damage(f"{name}/{path.name}", bad[0][0], len(bad), bad[0][1])] if bad else []


def _in_bulk(header: Sequence[str], content: bytes) -> pd.DataFrame | None:
    """All lines at once; None if one of them needs a closer look."""
    if content.startswith(b"\n") or any(sign in content for sign in UNUSUAL):
        return None
    texts = pa.dictionary(pa.int32(), pa.string())
    types = {
        **dict.fromkeys(CURVE_KEYS, texts),
        **dict.fromkeys(CURVE_FIGURES, pa.float64()),
        "step": pa.int64(),
    }
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(content),
            read_options=pa.csv.ReadOptions(column_names=header),
            convert_options=pa.csv.ConvertOptions(
                column_types=types,
                include_columns=list(types),
                include_missing_columns=True,
                null_values=[""],
                strings_can_be_null=False,
            ),
        )
    except pa.ArrowInvalid:
        return None
    if table["step"].null_count:
        return None
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas()
    return frame


def _line_by_line(
    header: Sequence[str], lines: Iterable[bytes]
) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The same of the lines that are sound; and (line number, why) of the others."""
    found, bad = [], []
    for number, line in enumerate(lines, start=2):
        try:
            found.append(_evaluation(as_row(header, line)))
        except ValueError as error:
            bad.append((number, str(error)))
    return pd.DataFrame(found, columns=[*CURVE_KEYS, "step", *CURVE_FIGURES]), bad


def _evaluation(row: Row) -> dict[str, Any]:
    found: dict[str, Any] = {name: sys.intern(row[name]) for name in CURVE_KEYS}
    for name in ("step", *CURVE_FIGURES):
        kind, text = WHOLE if name == "step" else NUMBER, row.get(name, "")
        try:
            found[name] = kind.read(text) if text or name == "step" else np.nan
        except ValueError:
            raise ValueError(f"{name} is {text!r}, not {kind.words}") from None
    return found


def _curves(frame: pd.DataFrame) -> dict[Which, Curve]:
    """Lines in any order -> a curve for each (run_id, host_id, attempt)."""
    steps = frame["step"].to_numpy(dtype=np.int64)
    figures = [steps.astype(np.float64)]
    for name in CURVE_FIGURES:
        column = frame[name].to_numpy(dtype=np.float64)
        known = np.where(np.isfinite(column), column, np.nan)
        figures.append(np.clip(known, -LARGEST_FIGURE, LARGEST_FIGURE))
    groups: Any = frame.groupby(list(CURVE_KEYS), observed=True, sort=False).indices
    found = {}
    for which, lines in groups.items():
        ordered = lines[np.argsort(steps[lines], kind="stable")]
        last = np.append(np.diff(steps[ordered]) > 0, True)
        rows = ordered[last]
        found[which] = Curve(*(figure[rows] for figure in figures))
    return found
