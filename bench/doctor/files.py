"""Where results and corpora go: can they be written, and is there room."""

import os
import shutil
import tempfile
from pathlib import Path

from bench.border.options import DataOptions, TrainOptions
from bench.doctor.finding import Answer, explained, ok, problem, unknown, warning
from bench.errors import CorpusError
from bench.records.cache import is_whole
from bench.records.corpora import TINYSHAKESPEARE_SHA256, find_corpus

# Curves, raw step times and samples of hundreds of cells, with as much again to spare.
RESULTS_GIB = 1.0


def results_folder(folder: Path) -> Answer:
    if _is_nowhere(folder):
        return problem(
            f"{folder} would be in the current folder, which has been removed",
            "change to a folder that is there (cd), or give another folder: --out DIR",
        )
    base = existing(folder)
    if why := why_not_writable(base):
        return problem(f"{base} cannot be written: {why}", "give another folder: --out DIR")
    return ok(f"{folder} can be {'written' if base == folder.absolute() else 'made'}")


def results_room(folder: Path) -> Answer:
    if _is_nowhere(folder):
        return unknown("the current folder has been removed")
    gib = shutil.disk_usage(existing(folder)).free / 2**30
    if gib >= RESULTS_GIB:
        return ok(f"{gib:.1f} GiB free for {folder}")
    return warning(
        f"{gib:.2f} GiB free for {folder}; a large matrix may write {RESULTS_GIB:g} GiB",
        "make room there, or give another folder: --out DIR",
    )


def _is_nowhere(folder: Path) -> bool:
    """Whether it is told from a current folder that has been removed."""
    try:
        folder.absolute()
    except FileNotFoundError:
        return True
    return False


def corpus(asked: str | None) -> Answer:
    """The text, and whether its file is in the cache or can be put there. Fetches nothing."""
    try:
        text = find_corpus(asked)
        text.check(TrainOptions().block_size, DataOptions())
    except CorpusError as error:
        return problem(*explained(error))
    file = text.file
    if is_whole(file):
        return ok(f"{text.chosen}; in the cache")
    base = existing(file.parent)
    if why := why_not_writable(base):
        return problem(
            f"{text.chosen}; its cache {base} cannot be written: {why}",
            "set BENCH_CACHE to a folder that can be written",
        )
    if text.sha256 == TINYSHAKESPEARE_SHA256:
        return warning(
            f"{text.chosen}; not in the cache",
            f"the first run downloads it; without internet access put it at {file}",
        )
    return ok(f"{text.chosen}; its cache can be written")


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    path = path.absolute()
    # Not Path.exists: it raises where a folder above may not be entered.
    return next(parent for parent in (path, *path.parents) if os.path.exists(parent))


def why_not_writable(folder: Path) -> str | None:
    """None if a file could be made and filled there. Tried: permission bits mislead for root, on
    a read-only mount and on a full disk."""
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(b"\0" * 4096)
            file.flush()
    except OSError as error:
        return error.strerror
    return None
