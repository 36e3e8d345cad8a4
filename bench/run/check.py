"""`check`: every class that a matrix brings, tried out where its cells would run."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from bench.border.options import OWN, AdamWOptions, NanoKimiOptions, SGDOptions
from bench.border.spec import Model, Optimizer, RunSpec
from bench.launch.job import Launcher
from bench.matrix.expansion import Matrix
from bench.matrix.trials import Arm, arm_of
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.records.tokenfiles import AnyCorpus
from bench.run.check_program import check_program
from bench.run.signals import heard
from bench.run.standing import skip_reason
from bench.run.tryout import CheckResult, TryOut

# An optimizer is tried on a model with every role, and with matrices stacked either way.
TOY_MODEL = Model("toy", "nanokimi", NanoKimiOptions(n_embd=16, n_layer=1, n_head=2, n_experts=2))
TOY_BLOCK = 16
TOY_OPTIMIZER = Optimizer("toy", "adamw", AdamWOptions(lr=3e-3))
# For a model of sparse gradients, which AdamW cannot use: all its arms are of other optimizers.
TOY_SGD = Optimizer("toy", "sgd", SGDOptions(lr=0.3))


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
        if cell.tried and cell.tried.trial and not cell.waits:  # other studies vary the same
            trials.setdefault(arm_of(cell), {}).setdefault(
                cell.tried.trial, cell.spec.optimizer.options
            )
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
    matrix: Matrix,
    corpus: AnyCorpus | None,
    cells: Sequence[Cell],
    launcher: Launcher,
    machine: Machine,
) -> Iterator[CheckResult]:
    """What is found of every class of these cells, or of their program, as it is found.

    Raises:
        BenchError: where one cannot be tried out at all.
        StoppedError: by Ctrl-C or SIGTERM.
    """
    try_out = TryOut(matrix, corpus, launcher, machine)
    with heard(lambda number: try_out.stop.set("stopped", by_user=True)):
        if corpus is None:
            yield from check_program(cells, machine, try_out)
            return
        for subject in subjects(cells):
            spec = subject.cell.spec
            if why := skip_reason(subject.cell, machine):
                yield CheckResult(subject.name, spec.device, False, why)
                continue
            trials = json.dumps({n: asdict(each) for n, each in subject.trials.items()})
            left = try_out(subject.cell, subject.module, {"trials.json": trials})
            yield from left.findings(subject.name)
