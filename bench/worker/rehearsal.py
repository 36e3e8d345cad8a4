"""The first steps of a run, by its own way and with its matrix's settings, and who moved in them.

Only lengths are cut: what a class does wrong in a run it does wrong here, and is told.
"""

import dataclasses
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.border.options import OwnOptimizer
from bench.border.spec import CellFiles, RunSpec
from bench.optim.leaves import OnLeaves
from bench.worker import own_optimizer
from bench.worker.cell import CellRun, reset
from bench.worker.check import KEPT, Finding, finding
from bench.worker.classes import WrongClassError
from bench.worker.clocks import PhaseClock
from bench.worker.data import Tokens
from bench.worker.evaluation import EVAL_TOKENS
from bench.worker.likeness import settings_held
from bench.worker.own_model import BroughtModel
from bench.worker.positions import BatchPositions
from bench.worker.registry import build_optimizers
from bench.worker.schedule import changes_rates, set_rates
from bench.worker.training import Trainer

STEPS = 5
MOST_STEPS = 25  # some optimizers only gather gradients at first
PRUNE_EVERY = 2  # where a model prunes at all
AT_BASE_RATES: dict[str, Any] = {
    "schedule": "constant",
    "warmup_steps": 0,
    "decay_steps": 0,
    "min_lr_share": 0.0,
}


def rehearse(
    files: CellFiles, spec: RunSpec, tokens: Sequence[Path], say: Callable[..., None]
) -> Iterator[Finding]:
    rehearsal = Rehearsal(spec, say)
    ran = finding("run", lambda: rehearsal.steps(tokens))
    yield ran
    if not ran["ok"]:
        return
    yield finding("gradients", rehearsal.gradients)
    if changes_rates(spec.train):
        yield finding("schedule", rehearsal.schedule)
    yield finding("moves", rehearsal.moves)
    if trials := json.loads(files.trials.read_text(encoding="utf-8")):
        yield finding("trials", lambda: rehearsal.trials(trials))


class Rehearsal:
    """A run of a few steps, and what can be asked of it afterwards."""

    def __init__(self, spec: RunSpec, say: Callable[..., None]) -> None:
        self.spec = spec
        self.short = _Short(shortened(spec), PhaseClock(), say)

    @property
    def trainer(self) -> Trainer:
        assert self.short.trainer is not None
        return self.short.trainer

    @property
    def batch(self) -> Tensor:
        return self.trainer.windows.at(self.trainer.positions[0])

    def steps(self, tokens: Sequence[Path]) -> str:
        self.short.run(tokens)
        first, last = self.trainer.curve[0], self.trainer.curve[-1]
        told = [f"val loss {first.val_loss:.4g}, after {last.step} steps {last.val_loss:.4g}"]
        if (passes := self.trainer.passes_per_step) not in (None, 1):
            told.append(f"{passes:.3g} forward and backward passes a step")
        if empty := own_optimizer.empty_groups(self.trainer.model.stacks(), self.spec.optimizer):
            told.append(f"no parameter for group {', '.join(empty)}")
        if unchanged := self.trainer.rates_left_alone():
            told.append(f"train.schedule does not change {', '.join(unchanged)}")
        return "; ".join(told)

    def gradients(self) -> str:
        """An evaluation, with which every run begins, takes no parameter's gradient away."""
        model = self.trainer.model
        reset(self.trainer, self.spec)
        before = self._reached()
        reset(self.trainer, self.spec)
        with torch.no_grad(), self.trainer.evaluating():
            model(self.batch[:, :-1])
        after = self._reached()
        if lost := [name for name in before if name not in after]:
            raise WrongClassError(
                f"{', '.join(lost)} get no gradient once the model was evaluated, as a run "
                f"begins: {KEPT}"
            )
        never = [name for name in _trained(model) if name not in after]
        return f"reach {len(after)} parameters" + (f", not {', '.join(never)}" if never else "")

    def moves(self) -> str:
        """What has a gradient is updated, by the rates as they are without a schedule."""
        trainer = self.trainer
        trainer.train = dataclasses.replace(trainer.train, **AT_BASE_RATES)
        reset(trainer, self.spec)
        before = {name: each.detach().clone() for name, each in _trained(trainer.model).items()}
        waiting = set(self._reached()) - _at_rate_zero(trainer)
        moving, steps = len(waiting), 0
        while waiting and steps < MOST_STEPS:
            trainer.step(trainer.positions[0])
            steps += 1
            after = _trained(trainer.model)
            waiting = {name for name in waiting if torch.equal(before[name], after[name])}
        names = [name for name in before if name in waiting]
        if waiting and (len(waiting) == moving or _moved_elsewhere(trainer, waiting)):
            raise WrongClassError(
                f"{', '.join(names)} have gradients and are what they were after {steps} steps. "
                "Update what the class was given in place, parameter.add_(...): parameter.data = "
                "... leaves the model with the old one. (Or is lr too small for float32?)"
            )
        later = f"; not {', '.join(names)}: is that meant?" if waiting else ""
        moved = moving - len(waiting)
        return f"{moved} of {len(before)} parameters are others after {steps} steps{later}"

    def schedule(self) -> str:
        """Half the learning rates move every parameter otherwise than the whole."""
        ends = [self._moved_at(share) for share in (0.0, 1.0, 0.5)]
        moved = [name for name in ends[0] if not torch.equal(ends[1][name], ends[0][name])]
        alike = [name for name in moved if torch.equal(ends[1][name], ends[2][name])]
        if moved and len(alike) == len(moved):
            raise WrongClassError(
                "no parameter moves otherwise at half the rate: the class steps by a rate of its "
                "own. Let it read group['lr'] at each step, or leave out train.schedule and "
                "train.warmup_steps"
            )
        if alike:
            return f"does not reach {', '.join(alike)}: their rate is none of a parameter group"
        return f"reaches all {len(moved)} parameters that move" if moved else "nothing moves yet"

    def _moved_at(self, share: float) -> dict[str, Tensor]:
        """The parameters after a few steps at this share of all rates; at 0, before any."""
        trainer = self.trainer
        trainer.train = dataclasses.replace(trainer.train, **AT_BASE_RATES)
        reset(trainer, self.spec)
        for _ in range(STEPS if share else 0):
            set_rates(trainer.optimizers, share)
            trainer.step(trainer.positions[0])
        return {name: each.detach().clone() for name, each in _trained(trainer.model).items()}

    def trials(self, options: Mapping[str, Mapping[str, Any]]) -> str:
        """Each trial's optimizers hold settings that no other trial's do."""
        by_settings: dict[str, list[str]] = {}
        for number, one in options.items():
            tried = dataclasses.replace(self.spec.optimizer, options=OwnOptimizer(**one))
            self.trainer.optimizers = []
            made = build_optimizers(tried, self.trainer.model)
            by_settings.setdefault(settings_held(made), []).append(number)
        if same := [numbers for numbers in by_settings.values() if len(numbers) > 1]:
            raise WrongClassError(
                f"of {len(options)} trials {len(by_settings)} differ: in trials "
                f"{'; '.join(', '.join(numbers) for numbers in same)} the optimizers hold the same "
                "settings. What tune.space varies does not reach them: a group of theirs sets it "
                "too, or the class drops it"
            )
        return f"the optimizers of {len(options)} trials hold as many different settings"

    def _reached(self) -> list[str]:
        """The parameters to which the gradient of the first batch leads, not 0 throughout."""
        trainer = self.trainer
        trainer.gradients(self.batch)
        reached = [
            name
            for name, each in _trained(trainer.model).items()
            if each.grad is not None and bool(each.grad.to_dense().any())
        ]
        trainer.model.zero_grad()
        return reached


class _Short(CellRun):
    """A run that ends after a few steps, with little to evaluate."""

    def _read(self, files: Sequence[Path], device: torch.device) -> tuple[Tokens, BatchPositions]:
        tokens, positions = super()._read(files, device)
        train = self.spec.train
        most = EVAL_TOKENS[device.type] * 3 // 2 + train.block_size + 1  # a whole chunk and a part
        cut = {name: split.first(most) for name, split in tokens.splits.items() if name != "train"}
        return (
            dataclasses.replace(tokens, splits={**tokens.splits, **cut}),
            positions.first(STEPS + train.graph_steps),
        )

    def _build(self, tokens: Tokens, positions: BatchPositions, device: torch.device) -> Trainer:
        trainer = super()._build(tokens, positions, device)
        if trainer.pruning is not None:
            every = min(PRUNE_EVERY, trainer.pruning.every)
            trainer.pruning = dataclasses.replace(trainer.pruning, every=every)
        return trainer

    def _infer(self, trainer: Trainer, tokens: Tokens) -> None:
        """An evaluation has shown the model what inference does."""


def shortened(spec: RunSpec) -> RunSpec:
    windows, batches = min(spec.eval.train_windows, 4), min(spec.eval.batches, 2)
    evaluation = dataclasses.replace(spec.eval, train_windows=windows, batches=batches)
    return dataclasses.replace(spec, eval=evaluation)


def _trained(model: Any) -> dict[str, Tensor]:
    """The parameters that are not frozen, by the names that their author knows."""
    module = model.module if isinstance(model, BroughtModel) else model
    return {name: each for name, each in module.named_parameters() if each.requires_grad}


def _at_rate_zero(trainer: Trainer) -> set[str]:
    """Parameters of groups that the matrix gives a learning rate of 0."""
    names = {id(each): name for name, each in _trained(trainer.model).items()}
    found = set[str]()
    for optimizer in trainer.optimizers:
        held = {id(each): id(each) for group in optimizer.param_groups for each in group["params"]}
        if isinstance(optimizer, OnLeaves):
            for stack in optimizer.leaves.stacks:
                held |= {id(leaf): id(stack.parameter) for leaf in optimizer.leaves.of(stack)}
        for group in optimizer.param_groups:
            if group.get("lr") == 0:
                found |= {
                    names[held[id(each)]] for each in group["params"] if held[id(each)] in names
                }
    return found


def _moved_elsewhere(trainer: Trainer, names: Collection[str]) -> bool:
    """Whether what an optimizer holds in place of one of these is no longer what the model has."""
    parameters = _trained(trainer.model)
    still = {id(parameters[name]) for name in names}
    return any(
        not torch.equal(leaf, part)
        for optimizer in trainer.optimizers
        if isinstance(optimizer, OnLeaves)
        for stack in optimizer.leaves.stacks
        if id(stack.parameter) in still
        for leaf, part in zip(
            optimizer.leaves.of(stack), stack.view(stack.parameter.detach()), strict=True
        )
    )
