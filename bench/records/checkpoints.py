"""Checkpoints of interrupted attempts: handed on to the next one, and removed when none is needed.

This side moves files and never looks into them.
"""

import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.border.checkpoints import NAME, Keeping, step_of
from bench.border.circumstances import Circumstances
from bench.border.spec import CellFiles
from bench.records.endings import is_machines_fault
from bench.records.rows import Row


def hand_on(files: CellFiles, rows: Sequence[Row], here: Circumstances) -> int | None:
    """Move the checkpoints of an earlier attempt into that of a new one, whose folder is made.

    Of the last one that ran as this one runs, if it was interrupted or lost its machine. Nobody
    goes on from a failure of its own, nor from an end. Returns the last one's step; None: there is
    none.

    Raises:
        OSError: if the disk does not take it.
    """
    for before in _earlier(files):
        if not _ran_as(here, before):
            continue
        if not _was_interrupted(before, rows):
            return None
        if found := _checkpoints(before):
            files.checkpoints.mkdir()
            moved = [path for path in found if _moved(path, files.checkpoints)]
            _discard(before)
            return max((step_of(path.name) for path in moved), default=None)
    return None


def _moved(path: Path, place: Path) -> bool:
    """False: it is gone. A runner that was taken over from may live, and its worker keep fewer."""
    try:
        path.replace(place / path.name)
    except FileNotFoundError:
        return False
    return True


def _ran_as(here: Circumstances, files: CellFiles) -> bool:
    """Whether an attempt kept checkpoints, in these circumstances but for the host."""
    try:
        kept_by = Keeping.read(files.keeping)
    except ValueError:  # of a worker that leaves anything
        return False
    return kept_by is not None and kept_by.here.on_any_host() == here.on_any_host()


def discard_all(files: CellFiles) -> None:
    """Those of an attempt, and of all before it."""
    for each in (files, *_earlier(files)):
        _discard(each)


def _discard(files: CellFiles) -> None:
    """Of a link, which a worker may have put there, the link alone."""
    if files.checkpoints.is_symlink():
        files.checkpoints.unlink()
    else:
        shutil.rmtree(files.checkpoints, ignore_errors=True)


def _earlier(files: CellFiles) -> Iterator[CellFiles]:
    """The attempts at the same cell before this one, the last one first."""
    run_id, _, number = files.folder.name.rpartition("-")
    for attempt in range(int(number) - 1, 0, -1):
        yield CellFiles(files.folder.with_name(f"{run_id}-{attempt}"))


def _checkpoints(files: CellFiles) -> list[Path]:
    """Plain files of such a name: a worker owns its folder, and links lead elsewhere."""
    place = files.checkpoints
    if place.is_symlink() or not place.is_dir():
        return []
    return [
        path
        for path in place.iterdir()
        if NAME.fullmatch(path.name) and stat.S_ISREG(path.lstat().st_mode)
    ]


def _was_interrupted(files: CellFiles, rows: Sequence[Row]) -> bool:
    """Whether an attempt ended by no doing of its cell; without a row its runner was killed."""
    attempt = files.folder.name.rpartition("-")[2]
    row = next((row for row in rows if row["attempt"] == attempt), None)
    if row is None or row["status"] == "interrupted":
        return True
    return is_machines_fault(row["status"], row["reason"])
