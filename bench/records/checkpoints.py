"""Checkpoints of interrupted attempts: handed on to the next one, and removed when none is needed.

This side moves files and never looks into them.
"""

import shutil
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.border.checkpoints import NAME, Keeping
from bench.border.circumstances import Circumstances
from bench.border.spec import CellFiles
from bench.records.endings import is_machines_fault
from bench.records.rows import Row


def hand_on(files: CellFiles, rows: Sequence[Row], here: Circumstances) -> None:
    """Move the checkpoints of the attempt before into that of a new one, whose folder is made.

    Of the last attempt that has any: if it was interrupted or lost its machine, and would run
    here as it ran there. Nobody goes on from a failure of its own, nor from an end.

    Raises:
        OSError: if the disk does not take it.
    """
    before = next(filter(_checkpoints, _earlier(files)), None)
    if before is None or not _was_interrupted(before, rows):
        return
    try:
        kept_by = Keeping.read(before.keeping)
    except ValueError:  # of a worker that leaves anything
        return
    if kept_by is None or kept_by.here.on_any_host() != here.on_any_host():
        return
    files.checkpoints.mkdir()
    for path in _checkpoints(before):
        path.replace(files.checkpoints / path.name)
    _discard(before)


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
