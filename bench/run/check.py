"""`check`: every class that a matrix brings, tried out where its cells would run."""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from bench.border.options import OWN, AdamWOptions, NanoKimiOptions, SGDOptions
from bench.border.spec import CellFiles, Model, Optimizer, RunSpec
from bench.errors import StoppedError
from bench.launch.job import Exit, Job, Launcher, Stop, read_left
from bench.matrix.expansion import Matrix
from bench.matrix.trials import Arm, arm_of
from bench.measure.host import FindProcesses
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.records.corpora import Corpus
from bench.run.attempt import MAX_RESULT
from bench.run.lanes import make_slots
from bench.run.signals import heard
from bench.run.standing import skip_reason
from bench.statistics.text import printable

# An optimizer is tried on a model with every role, and with matrices stacked either way.
TOY_MODEL = Model("toy", "nanokimi", NanoKimiOptions(n_embd=16, n_layer=1, n_head=2, n_experts=2))
TOY_BLOCK = 16
TOY_OPTIMIZER = Optimizer("toy", "adamw", AdamWOptions(lr=3e-3))
# For a model of sparse gradients, which AdamW cannot use: all its arms are of other optimizers.
TOY_SGD = Optimizer("toy", "sgd", SGDOptions(lr=0.3))


@dataclass(frozen=True)
class CheckResult:
    subject: str  # "optimizer mine"
    check: str
    ok: bool
    text: str


@dataclass(frozen=True)
class Subject:
    """What is tried out: a class beside something of ours, or an arm as the matrix has it."""

    name: str
    cell: Cell
    module: str
    trials: Mapping[int, Any] = field(
        default_factory=dict
    )  # options that tuning tries in its place


def subjects(cells: Sequence[Cell]) -> list[Subject]:
    """Each class of the cells on each device, then each arm that has one."""
    trials: dict[Arm, dict[int, Any]] = {}
    for cell in cells:
        if cell.tried and cell.tried.trial:
            trials.setdefault(arm_of(cell), {})[cell.tried.trial] = cell.spec.optimizer.options
    classes: dict[tuple[str, str], Subject] = {}
    arms: dict[Arm, Subject] = {}
    pairs = {(cell.spec.model, cell.spec.optimizer) for cell in cells if not cell.tried}
    for cell in cells:
        spec, alone = cell.spec, {}
        if cell.tried:
            continue
        if spec.model.base == OWN:
            partner = _toy_optimizer([one for model, one in pairs if model == spec.model])
            alone[f"model {spec.model.name}"] = replace(spec, optimizer=partner)
        if spec.optimizer.base == OWN:
            alone[f"optimizer {spec.optimizer.name}"] = _beside_toy(
                spec, [model for model, one in pairs if one == spec.optimizer]
            )
        for name, toy in alone.items():
            subject = Subject(name, replace(cell, spec=toy), "bench.worker.check")
            classes.setdefault((name, spec.device), subject)
        if alone:
            name = f"{spec.model.name} + {spec.optimizer.name}"
            tried = trials.get(arm_of(cell), {}) if spec.optimizer.base == OWN else {}
            arms.setdefault(arm_of(cell), Subject(name, cell, "bench.worker.rehearse", tried))
    return [*classes.values(), *arms.values()]


def _toy_optimizer(partners: Sequence[Optimizer]) -> Optimizer:
    ours = {each.base for each in partners} - {OWN}
    return TOY_SGD if ours == {"sgd"} else TOY_OPTIMIZER


def _beside_toy(spec: RunSpec, partners: Sequence[Model]) -> RunSpec:
    """With a model of ours; one whose every model is brought may be made for these alone."""
    if all(each.base == OWN for each in partners):
        return spec
    return replace(spec, model=TOY_MODEL, train=replace(spec.train, block_size=TOY_BLOCK))


def check(
    matrix: Matrix, corpus: Corpus, cells: Sequence[Cell], launcher: Launcher, machine: Machine
) -> Iterator[CheckResult]:
    """What is found of every class of these cells, as it is found.

    Raises:
        BenchError: where a class cannot be tried out at all.
        StoppedError: by Ctrl-C or SIGTERM.
    """
    code = {each.sha256: each.store() for each in matrix.codes}
    tokens = corpus.store_tokens()
    stop = Stop()
    with heard(lambda number: stop.set("stopped", by_user=True)):
        for subject in subjects(cells):
            spec = subject.cell.spec
            if why := skip_reason(subject.cell, machine):
                yield CheckResult(subject.name, spec.device, False, why)
                continue
            launcher.environment(spec.device)  # what is missing is told before anything is launched
            with tempfile.TemporaryDirectory(prefix="bench-check-") as place:
                job = _job(subject, Path(place), tokens, machine)
                job = replace(job, code=tuple(code[key] for key in spec.own_code))
                ended = launcher.run(job, _Deaf(), stop)
                if stop.is_set:
                    raise StoppedError("stopped; a check leaves nothing behind.")
                yield from _findings(subject.name, job, ended)


def _job(subject: Subject, place: Path, tokens: Path, machine: Machine) -> Job:
    cell = subject.cell
    (slot,) = make_slots(1, [cell], machine)
    folder = place / "cells" / "check-1"
    folder.mkdir(parents=True)
    files = CellFiles(folder)
    files.spec.write_text(cell.spec.to_json(), encoding="utf-8")
    files.trials.write_text(json.dumps({n: asdict(each) for n, each in subject.trials.items()}))
    for file in (files.spec, files.trials):
        file.chmod(0o644)  # a container has another user
    uuids = tuple(gpu.uuid for gpu in slot.gpus)
    return Job(cell.spec, cell.limits, files, tokens, slot.cpus, uuids, module=subject.module)


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
