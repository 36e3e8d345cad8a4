"""How a run of a program ended: by its exit code, what was read, and what it printed last."""

import math
import re
import signal
from typing import NamedTuple

from bench.border.program import Program
from bench.border.surroundings import TERMINATED
from bench.program.figures import Figures
from bench.program.reading import LOSSES, OutputReader

LOG_TAIL = "; its log ends: "  # before words of the program, as bench/records/endings.py has it
QUOTED = 300  # characters of them
# Of torch on a CPU and on CUDA, of CUDA's libraries, of Python, of JAX.
OUT_OF_MEMORY = (
    *("OutOfMemoryError", "CUDA out of memory", "CUDA error: out of memory"),
    *("CUBLAS_STATUS_ALLOC_FAILED", "DefaultCPUAllocator", "MemoryError", "RESOURCE_EXHAUSTED"),
)


class Ended(NamedTuple):
    """The end of the process, or of a run within it."""

    code: int  # of the process; below 0: minus a signal's number
    tail: str  # the end of what it printed
    interrupted: bool = False
    fault: str = ""  # what stands against all that it did
    cut: int = 0  # lines that were too long
    how: str = ""  # in place of the exit code, where a log alone is known


def verdict(
    ended: Ended, figures: Figures, program: Program, reader: OutputReader
) -> tuple[str, str | None]:
    """(status, reason)"""
    if ended.interrupted:
        return "interrupted", TERMINATED
    if ended.fault:
        return "crashed", ended.fault
    if figures.not_finite:
        return "diverged", figures.not_finite
    if ended.code:
        for line in reversed(ended.tail.splitlines()):
            if any(words in line for words in OUT_OF_MEMORY):
                return "oom", f"{_how(ended)}: {line.strip()[:QUOTED]}"
        return "crashed", f"{_how(ended)}{_quoted(ended)}"
    deciding = needed(program, figures)
    missing = [name for name in deciding if figures.last.get(name) is None]
    if missing:
        return "crashed", _why_nothing(missing, ended, reader)
    for name in deciding:
        value = figures.last[name]
        if value is None or not math.isfinite(value):
            return "diverged", f"{name} is {value} at the end"
        if program.steps is not None and figures.known_at[name] != program.steps:
            known = figures.known_at[name]
            return "crashed", (
                f"{name} was last read at step {'unknown' if known is None else known}, and the "
                f"matrix says steps: {program.steps}{_quoted(ended)}"
            )
    return "ok", None


def needed(program: Program, figures: Figures) -> list[str]:
    """What must have been read: metrics and evaluations that are asked for, else any loss."""
    groups = {name for pattern in program.read for name in re.compile(pattern).groupindex}
    asked = [*program.metrics, *(name for name in ("val_loss", "test_loss") if name in groups)]
    if asked:
        return asked
    return [name for name in LOSSES if figures.last.get(name) is not None][:1] or ["loss"]


def _why_nothing(missing: list[str], ended: Ended, reader: OutputReader) -> str:
    lacking = " and no ".join(missing)
    parts = [f"{_how(ended)}, and in {reader.lines} lines there was no {lacking}"]
    parts += [f"{name}: {reader.refused[name]}" for name in missing if name in reader.refused]
    parts += [f"nothing matches {pattern!r}" for pattern in reader.silent]
    if ended.cut:
        parts.append(f"{ended.cut} lines were longer than is read")
    return f"{'; '.join(parts)}{_quoted(ended)}"


def _how(ended: Ended) -> str:
    if ended.how or ended.code >= 0:
        return ended.how or f"exit code {ended.code}"
    try:
        return f"ended by {signal.Signals(-ended.code).name}"
    except ValueError:  # a real-time signal
        return f"ended by signal {-ended.code}"


def _quoted(ended: Ended) -> str:
    return f"{LOG_TAIL}{ended.tail[-QUOTED:].strip()}" if ended.tail else "; it printed nothing"
