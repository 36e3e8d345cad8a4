"""One log -> the runs that it tells of, by the patterns that read a program in its cell."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench.border.program import Program
from bench.program.figures import CURVE, Figures
from bench.program.lines import LineSplitter
from bench.program.output import TAIL
from bench.program.patience import SlowPatternError, patience
from bench.program.reading import OutputReader
from bench.program.runs import OutputRuns
from bench.program.verdict import Ended, needed, verdict
from bench.run.imported.results import ForeignRun

CHUNK = 2**20  # bytes
# Of a program that did not end by itself, as Python, a shell (with the place in its script, or with
# nothing else on the line), Slurm, and the C++ library say it.
ERROR = re.compile(
    r"Traceback \(most recent call last\)"
    r"|^(?:\S+: line \d+: +\d+ )?(?:Killed|Terminated|Aborted|Bus error|Segmentation fault)"
    r"(?: +\(core dumped\))?(?: {3,}\S.*)?\s*$"
    r"|^(?:slurmstepd|srun): error: |^terminate called "
)
TOLD = "told"
STEP_TIMES = ("step_time_ms_p50", "step_time_ms_p90", "step_time_ms_p99")


def read_log(path: Path, program: Program, note: Callable[[bytes], object]) -> list[ForeignRun]:
    """`note` gets the file's bytes as they are read.

    With which exit code a program ended, a log does not tell: an error after the last figure, or
    that it was killed, counts as one. A run's steps are those by which all that decides was read.
    """
    log = _Log(program)
    kept: Path | None = path
    try:
        with path.open("rb") as file, patience(log.reader):
            for data in iter(partial(file.read, CHUNK), b""):
                note(data)
                log.take(data)
        log.take(b"\n")  # which ends a last line
    except SlowPatternError as error:
        log.fault = str(error)
    except OSError as error:
        log.fault, kept = f"the log cannot be read: {error.strerror}", None
    *before, last = log.runs.figures
    return [*(log.run(each, kept) for each in before), log.run(last, kept, is_last=True)]


class _Log:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.reader = OutputReader(program.read, program.metrics)
        self.runs = OutputRuns(program, 0.0)
        self.fault = ""
        self._has_error = False
        self._splitter = LineSplitter()
        self._tail = b""

    def take(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-TAIL:]
        for line in self._splitter.feed(data):
            record = self.reader.read(line)
            self.runs.add(line, record, 0.0)
            self._has_error = bool(ERROR.search(line)) or (self._has_error and not record)

    def run(self, figures: Figures, log: Path | None, *, is_last: bool = False) -> ForeignRun:
        failed = is_last and self._has_error
        ended = Ended(
            code=int(failed),
            tail=self._tail.decode("utf-8", "replace").strip(),
            fault=self.fault if is_last else "",
            cut=self._splitter.cut,
            how="an error comes after its last figure" if failed else "its log ends without one",
        )
        status, reason = verdict(ended, figures, self.program, self.reader)
        row = figures.row(status == "ok") | {"status": status, "reason": reason}
        if row["step_time_source"] != TOLD:  # when its lines came is not known
            row |= dict.fromkeys(STEP_TIMES)
            row["step_time_source"] = TOLD if row["train_time_s"] is not None else None
        if status == "ok":
            known_at = (figures.known_at[name] for name in needed(self.program, figures))
            row["steps"] = min((step for step in known_at if step is not None), default=None)
        curve = [dict(zip(CURVE, point, strict=True)) for point in figures.curve_rows()]
        return ForeignRun(row, curve, log)
