"""`check`: every class that a matrix brings, tried out where its cells would run."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.border.options import OWN, AdamWOptions, NanoKimiOptions
from bench.border.spec import CellFiles, Model, Optimizer
from bench.border.tokenised import tokenise
from bench.errors import StoppedError
from bench.launch.job import Exit, Job, Launcher, Stop, read_left
from bench.matrix.expansion import Matrix
from bench.measure.host import FindProcesses
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.run.attempt import MAX_RESULT
from bench.run.lanes import make_slots
from bench.run.signals import heard
from bench.run.standing import skip_reason
from bench.statistics.text import printable

# An optimizer is tried on a model with every role, and with matrices stacked either way.
TOY_MODEL = Model("toy", "nanokimi", NanoKimiOptions(n_embd=16, n_layer=1, n_head=2, n_experts=2))
TOY_BLOCK = 16
TOY_OPTIMIZER = Optimizer("toy", "adamw", AdamWOptions(lr=3e-3))


@dataclass(frozen=True)
class CheckResult:
    subject: str  # "optimizer mine"
    check: str
    ok: bool
    text: str


def subjects(cells: Sequence[Cell]) -> dict[tuple[str, str], Cell]:
    """(what, device) -> a cell in which the class is alone with something of ours."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in cells:
        spec, alone = cell.spec, {}
        if spec.model.base == OWN:
            alone[f"model {spec.model.name}"] = replace(spec, optimizer=TOY_OPTIMIZER)
        if spec.optimizer.base == OWN:
            train = replace(spec.train, block_size=TOY_BLOCK)
            alone[f"optimizer {spec.optimizer.name}"] = replace(spec, model=TOY_MODEL, train=train)
        for subject, toy in alone.items():
            found.setdefault((subject, spec.device), replace(cell, spec=toy))
    return found


def check(
    matrix: Matrix, cells: Sequence[Cell], launcher: Launcher, machine: Machine
) -> Iterator[CheckResult]:
    """What is found of every class of these cells, as it is found.

    Raises:
        BenchError: where a class cannot be tried out at all.
        StoppedError: by Ctrl-C or SIGTERM.
    """
    code = {each.sha256: each.store() for each in matrix.codes}
    stop = Stop()
    with heard(lambda number: stop.set("stopped", by_user=True)):
        for (subject, device), cell in subjects(cells).items():
            if why := skip_reason(cell, machine):
                yield CheckResult(subject, device, False, why)
                continue
            launcher.environment(device)  # what is missing is told before anything is launched
            with tempfile.TemporaryDirectory(prefix="bench-check-") as place:
                job = _job(cell, Path(place), machine)
                job = replace(job, code=tuple(code[key] for key in cell.spec.own_code))
                ended = launcher.run(job, _Deaf(), stop)
                if stop.is_set:
                    raise StoppedError("stopped; a check leaves nothing behind.")
                yield from _findings(subject, job, ended)


def _job(cell: Cell, place: Path, machine: Machine) -> Job:
    (slot,) = make_slots(1, [cell], machine)
    folder = place / "cells" / "check-1"
    folder.mkdir(parents=True)
    files = CellFiles(folder)
    files.spec.write_text(cell.spec.to_json(), encoding="utf-8")
    tokens = place / "toy.tokens"  # the toy task has its own; a launcher wants a file
    tokens.write_bytes(tokenise("ab"))
    for file in (files.spec, tokens):
        file.chmod(0o644)  # a container has another user
    gpu = slot.gpu.uuid if slot.gpu and cell.spec.device == "cuda" else None
    return Job(cell.spec, cell.limits, files, tokens, slot.cpus, gpu, program="bench.worker.check")


def _findings(subject: str, job: Job, ended: Exit) -> Iterator[CheckResult]:
    text = read_left(job.files.result, last=MAX_RESULT)
    try:
        findings: list[dict[str, Any]] = json.loads(text)["findings"]
        for each in findings:
            yield CheckResult(subject, str(each["check"]), bool(each["ok"]), str(each["text"]))
    except (ValueError, LookupError, TypeError):
        last = (ended.last_event or {}).get("stage", "class")
        why = ended.stopped_why or f"it ended with exit code {ended.code}"
        tail = read_left(job.files.log, last=500).strip()
        yield CheckResult(subject, f"after {last}", False, f"{why}; its log ends: {tail}")


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
