"""What can go wrong, as one tree. Every message says what is wrong, where, and what to do.

BenchError                  anything this program explains itself; exit code 2 at the top
├── MistakesError           a file of somebody's is wrong: all its mistakes at once
│   ├── MatrixError         the matrix
│   └── ForeignError        runs that are to be imported
├── CorpusError             the text cannot be used
├── CodeError               the code that a matrix brings along cannot be used
├── CacheError              the cache cannot be written, or what lies there is not what was put
├── RequestError            an option on the command line asks for what cannot be
├── MissingError            a package, an image, an engine, a way to a GPU is absent; has the remedy
├── GpuError                a GPU was lost while cells ran
├── EngineError             the container engine refused or failed
├── QueueError              a queue of jobs refused, failed or is not there
├── VersionError            one of two versions cannot run its cells
├── StoppedError            a person stopped it; what was run stays
├── FolderError             a results folder is busy, unwritable or not one
├── RecordError             a CSV of ours is damaged
└── BundleError             a file is no bundle of results, or none can be made
"""

import difflib
import shlex
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class BenchError(Exception):
    """Base of every error that is shown to a person without a traceback."""


@dataclass(frozen=True, order=True)
class Mistake:
    """One thing that is wrong in a file."""

    line: int  # 1-based; 0 where the whole file is meant
    where: str  # dotted path of the key or name of the column, "" for the file itself
    what: str  # the mistake and its remedy, one sentence each


class MistakesError(BenchError):
    undone = ""  # what was not done for them

    def __init__(self, file: str, mistakes: Sequence[Mistake], untold: int = 0) -> None:
        self.file = file
        self.mistakes = sorted(mistakes)
        total = len(mistakes) + untold
        count = "1 mistake" if total == 1 else f"{total:,} mistakes"
        lines = [f"{count} in {file}; nothing was {self.undone}."]
        for mistake in self.mistakes:
            place = f"{file}:{mistake.line}" if mistake.line else file
            lines.append(
                f"  {place}: {mistake.where + ': ' if mistake.where else ''}{mistake.what}"
            )
        lines += [f"  and {untold:,} more"] if untold else []
        super().__init__("\n".join(lines))


class MatrixError(MistakesError):
    undone = "run"


class ForeignError(MistakesError):
    undone = "imported"


class CorpusError(BenchError):
    pass


class CodeError(BenchError):
    pass


class CacheError(BenchError):
    pass


class RequestError(BenchError):
    pass


class MissingError(BenchError):
    pass


class GpuError(BenchError):
    pass


class EngineError(BenchError):
    pass


class QueueError(BenchError):
    pass


class VersionError(BenchError):
    pass


class StoppedError(BenchError):
    pass


class FolderError(BenchError):
    pass


class RecordError(BenchError):
    pass


class BundleError(BenchError):
    pass


def nearest(name: str, valid: Iterable[str]) -> str:
    """'Did you mean ...? Allowed: ...' for a name that is not valid."""
    valid = sorted(valid)
    close = difflib.get_close_matches(name, valid, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Allowed: {', '.join(valid)}."


def shown(value: Any) -> str:
    """A value as the person wrote it, shortened."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def program() -> str:
    """How this program was called, for commands that a message gives to type.

    `.venv/bin/bench`, `bench` where that is on the PATH, or `python -m bench`.
    """
    called = Path(sys.argv[0])
    if called.name == "bench":
        on_path = shutil.which("bench") == str(called)
        return "bench" if on_path else shlex.quote(str(called))
    as_module = called.parts[-2:] == ("bench", "__main__.py")
    python = sys.orig_argv[0] if as_module else "python"  # else a notebook, or a test
    return f"{shlex.quote(python)} -m bench"
