"""How rows reach the disk, and come back.

A row is appended to `runs.csv` in one write and fsynced when its cell ends. A write that a crash
cut off is not a row: reading passes over it, and the next append removes it first. In a folder that
is held (hold.py) a row is committed a moment before, as a table of its own.
"""

import codecs
import csv
import io
import math
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.border.atomic import write_atomically
from bench.errors import RecordError
from bench.records.columns import RUN_COLUMNS
from bench.records.hold import Hold

Row = dict[str, str]
Put = Callable[[Path, str], None]  # a file in place whole, as `write_atomically` does

# Without these no row of runs.csv tells anything.
RUNS_NEED = ("run_id", "host_id", "attempt", "status")

# A reason may quote a log; csv's own limit of 128 KiB a field would make such a row unreadable.
csv.field_size_limit(2**31 - 1)

# What a spreadsheet takes for a formula, full-width signs included. Control characters before it
# are passed over: some programs drop them.
FORMULA = re.compile(r"[\x00-\x1f]*[=+\-@＝＋－＠]")


# Losses, times and memory stay far below: float32 ends at 3.4e38. Sums and squares of what is
# beyond, as an edited file or a class of one's own may have it, would overflow.
LARGEST_FIGURE = 1e50


def bounded(figure: float) -> float:
    """A figure for statistics: one beyond ±LARGEST_FIGURE counts as that, and stays the worst."""
    return max(-LARGEST_FIGURE, min(LARGEST_FIGURE, figure))


def as_number(text: str) -> float | None:
    """A field as a finite number; None if it is empty, infinite or not a number at all.

    An infinite loss has no mean and no place in a picture; its row says `diverged`.
    """
    if not text:
        return None
    value = float(text)
    return bounded(value) if math.isfinite(value) else None


def as_field(value: Any) -> str:
    """A CSV field: floats by repr, true / false, empty for None, always one physical line.

    A text that a spreadsheet would run as a formula gets an apostrophe before it, which makes it
    plain text there; a number never does, nor when it is written again as the text it was read as.
    """
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return repr(value)
    # A file name that is not UTF-8 reaches us with half characters, which no file can hold.
    printable = str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    text = " ".join(printable.split())
    return f"'{text}" if FORMULA.match(text) and not _is_number(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_line(fields: Iterable[Any]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerow([as_field(field) for field in fields])
    return buffer.getvalue()


def as_table(columns: Iterable[str], rows: Iterable[Mapping[str, Any]]) -> str:
    columns = list(columns)
    lines = [as_line(columns), *(as_line(row.get(name) for name in columns) for row in rows)]
    return "".join(lines)


def write_table(
    path: Path,
    columns: Iterable[str],
    rows: Iterable[Mapping[str, Any]],
    put: Put = write_atomically,
) -> None:
    put(path, as_table(columns, rows))


def without_mark(content: bytes) -> bytes:
    """A file's content without the byte order mark that Excel puts before UTF-8."""
    return content.removeprefix(codecs.BOM_UTF8)


def _complete_lines(path: Path) -> list[bytes]:
    """The lines of a file that end with a line feed: what a crash cut off is no line."""
    try:
        return without_mark(path.read_bytes()).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RecordError(f"{path} cannot be read: {error.strerror}. Make it readable.") from error


def fields_of(line: bytes) -> list[str]:
    """One line's fields. Each line is parsed by itself: damage cannot swallow its neighbours.

    Raises:
        ValueError: for a line that is not UTF-8 or no CSV.
    """
    try:
        return next(csv.reader([line.decode("utf-8")], strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error


def as_row(header: Sequence[str], line: bytes) -> Row:
    """One line by its columns.

    Raises:
        ValueError: for a line that is damaged.
    """
    fields = fields_of(line)
    if len(fields) != len(header):
        raise ValueError(f"{len(fields)} fields under a header of {len(header)}")
    return dict(zip(header, fields, strict=True))


def _damaged(path: Path, number: int, why: object) -> RecordError:
    return RecordError(
        f"{path}:{number}: {why}. Put the line right or remove it; the other rows are complete."
    )


def read_table(path: Path) -> list[Row]:
    """All complete rows of a CSV of ours, every field as text; none if there is no file.

    Raises:
        RecordError: for a line that is damaged.
    """
    lines, rows = _complete_lines(path), []
    header = _header(path, lines)
    for number, line in enumerate(lines[1:], start=2):
        try:
            rows.append(as_row(header, line))
        except ValueError as error:
            raise _damaged(path, number, error) from error
    return rows


def _header(path: Path, lines: Sequence[bytes]) -> list[str]:
    """A file's columns, of its lines; empty without any."""
    try:
        return fields_of(lines[0]) if lines else []
    except ValueError as error:
        raise _damaged(path, 1, error) from error


def read_runs(path: Path, needed: Iterable[str] = RUNS_NEED) -> list[Row]:
    """The rows of a runs.csv; all of them can be put in the order of their attempts.

    Equal lines are one row: who takes over a folder appends what is committed, and may have been
    stopped, or have stopped another, just before the write (hold.py).

    Raises:
        RecordError: for a table of something else, or a line that is damaged.
    """
    rows = read_table(path)
    if rows and (missing := [name for name in needed if name not in rows[0]]):
        raise RecordError(
            f"{path} lacks the columns {', '.join(missing)}. Give the runs.csv of a results folder."
        )
    for number, row in enumerate(rows, start=2):
        attempt = row["attempt"]
        if not (attempt.isascii() and attempt.isdecimal()):
            raise _damaged(path, number, f"attempt is {attempt!r}, not a whole number")
    return list({tuple(row.values()): row for row in rows}.values())


def by_cell(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """run_id -> its rows, oldest attempt first."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["attempt"])):
        found[row["run_id"]].append(row)
    return found


def append_row(path: Path, columns: Iterable[str], row: Mapping[str, Any]) -> None:
    """Add one row to a table that several processes may write, in one write; made if not there."""
    columns = list(columns)
    line = as_line(row.get(name) for name in columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        header = "" if os.fstat(handle).st_size else as_line(columns)
        os.write(handle, (header + line).encode())
    finally:
        os.close(handle)


class RunsTable:
    """`runs.csv` of one results folder, open for appending rows; `hold`: of that folder."""

    def __init__(self, path: Path, hold: Hold | None = None) -> None:
        self.path = path
        self.rows: list[Row] = []
        self._of: dict[str, list[Row]] = defaultdict(list)
        self._hold = hold
        # Before runs.csv, since a holder that was taken over from may be moving one there.
        left = {file: read_runs(file) for file in (hold.published() if hold else [])}
        header = self._header()
        for row in read_runs(path):
            self._remember(_complete(row))
        if header != list(RUN_COLUMNS) or self._is_torn() or self._has_equal_lines():
            self._rewrite()
        for file, rows in left.items():
            self._take_in(file, rows)

    def _header(self) -> list[str]:
        """The file's columns; empty if there is no file yet.

        Raises:
            RecordError: if a newer version of this program, or another program, wrote it.
        """
        header = _header(self.path, _complete_lines(self.path))
        newer = [name for name in header if name not in RUN_COLUMNS]
        if newer:
            raise RecordError(
                f"{self.path}: unknown columns {', '.join(newer)}. A newer version of this "
                "program wrote it, or another program. Use that version, or give another --out."
            )
        return header

    def _remember(self, row: Row) -> None:
        self.rows.append(row)
        self._of[row["run_id"]].append(row)

    def _is_torn(self) -> bool:
        return not self.path.read_bytes().endswith(b"\n")

    def _has_equal_lines(self) -> bool:
        return len(_complete_lines(self.path)) > 1 + len(self.rows)

    def _rewrite(self) -> None:
        """Drop a torn last line, and give an older file the columns that have come since."""
        put = self._hold.put if self._hold else write_atomically
        write_table(self.path, RUN_COLUMNS, self.rows, put)

    def _take_in(self, file: Path, rows: Iterable[Row]) -> None:
        """Rows that were committed by a holder that came no further."""
        for row in map(_complete, rows):
            if row not in self.rows:
                self._write(row)
        file.unlink(missing_ok=True)

    def append(self, row: Mapping[str, Any]) -> None:
        """Commit one row: when this returns, it is on the disk.

        Raises:
            FolderError: if another holds the folder by now; the row is not committed, unless that
                one has taken it in.
            RecordError: if the disk does not take it; earlier rows are complete.
        """
        unknown = set(row) - set(RUN_COLUMNS)
        assert not unknown, f"no such columns in runs.csv: {sorted(unknown)}"
        fields = {name: as_field(row.get(name)) for name in RUN_COLUMNS}
        published, remedy = None, "Make room for it or make it writable, and run again"
        try:
            if self._hold:
                published = self._hold.publish(as_table(RUN_COLUMNS, [fields]))
                self._hold.check()  # if another has taken over since, he has that row
            self._write(fields)
            if published:
                published.unlink(missing_ok=True)
        except OSError as error:
            kept = (
                f"it is kept in {published}, and added then"
                if published
                else "the cell is still open"
            )
            raise RecordError(
                f"{self.path}: the row of {fields['run_id']} could not be written: {error}. "
                f"Earlier rows are complete. {remedy}: {kept}."
            ) from error

    def _write(self, row: Row) -> None:
        """To the end of runs.csv."""
        if self._is_torn():  # an earlier append met a full disk
            self._rewrite()
        line = as_line(row.values()).encode()
        self._append_line(line)
        self._remember(row)

    def _append_line(self, line: bytes) -> None:
        handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.write(handle, line) != len(line):
                raise OSError(f"{self.path}: the disk took only a part of a row")
            os.fsync(handle)
        finally:
            os.close(handle)

    def of(self, run_id: str) -> list[Row]:
        """The rows of one cell, oldest attempt first."""
        return sorted(self._of[run_id], key=lambda row: int(row["attempt"]))


def _complete(row: Row) -> Row:
    """A row of an older version, with the columns that have come since."""
    return {name: row.get(name, "") for name in RUN_COLUMNS}
