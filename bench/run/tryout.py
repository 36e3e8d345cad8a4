"""Something in place of a cell, run where the cell would run: what `check` makes its lines of."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.border.spec import CellFiles
from bench.errors import StoppedError
from bench.launch.job import Exit, Job, Launcher, Stop, read_left
from bench.matrix.expansion import Matrix
from bench.measure.host import FindProcesses
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.records.tokenfiles import AnyCorpus
from bench.run.attempt import MAX_RESULT
from bench.run.lanes import make_slots
from bench.statistics.text import printable


@dataclass(frozen=True)
class CheckResult:
    subject: str  # "optimizer mine"
    check: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Left:
    """What a try left behind."""

    result: str  # the text of result.json; empty if there is none
    ended: Exit
    log: str  # its end

    def findings(self, subject: str) -> Iterator[CheckResult]:
        try:
            findings: list[dict[str, Any]] = json.loads(self.result)["findings"]
            for each in findings:
                yield CheckResult(subject, str(each["check"]), bool(each["ok"]), str(each["text"]))
        except (ValueError, LookupError, TypeError):
            last = (self.ended.last_event or {}).get("stage", "class")
            why = self.ended.stopped_why or f"it ended with exit code {self.ended.code}"
            yield CheckResult(subject, f"after {last}", False, f"{why}; its log ends: {self.log}")


class TryOut:
    """Runs something in place of a cell, where the cell would run, and leaves nothing behind."""

    def __init__(
        self, matrix: Matrix, corpus: AnyCorpus | None, launcher: Launcher, machine: Machine
    ) -> None:
        self._code = {each.sha256: each.store() for each in matrix.codes}
        self._data = tuple((name, each.path) for name, each in matrix.data.items())
        self._tokens = corpus.for_cells() if corpus else ()
        self._launcher, self._machine = launcher, machine
        self.stop = Stop()

    def __call__(self, cell: Cell, module: str, beside: Mapping[str, str]) -> "Left":
        """What it left, and how it ended.

        `beside`: the files that it finds beside its spec.json.

        Raises:
            StoppedError: by Ctrl-C or SIGTERM.
        """
        self._launcher.environment(cell.spec.device)  # what is missing is told before any launch
        with tempfile.TemporaryDirectory(prefix="bench-check-") as place:
            job = self._job(cell, module, Path(place))
            for name, text in {"spec.json": cell.spec.to_json(), **beside}.items():
                file = job.files.folder / name
                file.write_text(text, encoding="utf-8")
                file.chmod(0o644)  # a container has another user
            ended = self._launcher.run(job, _Deaf(), self.stop)
            if self.stop.is_set:
                raise StoppedError("stopped; a check leaves nothing behind.")
            result = read_left(job.files.result, last=MAX_RESULT)
            return Left(result, ended, read_left(job.files.log, last=500).strip())

    def _job(self, cell: Cell, module: str, place: Path) -> Job:
        (slot,) = make_slots(1, [cell], self._machine)
        folder = place / "cells" / "check-1"
        folder.mkdir(parents=True)
        return Job(
            cell.spec,
            cell.limits,
            CellFiles(folder),
            self._tokens,
            slot.cpus,
            tuple(gpu.uuid for gpu in slot.gpus),
            code=tuple(self._code[key] for key in cell.spec.own_code),
            data=self._data,
            module=module,
        )


class _Deaf:
    """Nobody looks on."""

    def started(self, find: FindProcesses) -> None:
        pass

    def event(self, event: dict[str, Any]) -> None:
        pass


def as_line(finding: CheckResult) -> str:
    """One line that commands no terminal, whatever somebody's code has said."""
    state, text = "ok" if finding.ok else "problem", " ".join(finding.text.split())
    return printable(f"{state:<8} {finding.subject}: {finding.check}: {text}")
