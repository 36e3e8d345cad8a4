"""Learning rates over a run: which share of its base rate each step takes."""

import math
import numbers
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.border.options import TrainOptions
from bench.optim.leaves import as_brought
from bench.worker.classes import WrongClassError

# Where a rate began (PyTorch's schedulers), or how far it may go; no step is made with them.
BOUNDS = ("initial_", "base_", "final_", "min_", "max_")
LIKE_A_RATE = re.compile(r"(^|_)lrs?(_|$|\d)|learning_rate")


def changes_rates(train: TrainOptions) -> bool:
    """Whether any step's rate differs from the base rate."""
    return train.schedule != "constant" or train.warmup_steps > 0


def rate_share(train: TrainOptions, step: int) -> float:
    """Share of the base learning rate in this step of 0 .. train.steps - 1: in (0, 1].

    Warm-up rises in a straight line and ends at 1 in its last step. A decay starts from 1 and
    would reach min_lr_share one step after the last, so that no step is spent at a rate of 0:
    cosine (Loshchilov and Hutter 2017, one period) from the end of warm-up, wsd (Hu et al.
    2024) in a straight line over the last decay_steps.
    """
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    left = train.steps - step
    match train.schedule:
        case "constant":
            above_minimum = 1.0
        case "cosine":
            done = 1 - left / (train.steps - train.warmup_steps)
            above_minimum = (1 + math.cos(math.pi * done)) / 2
        case "wsd":
            above_minimum = min(1.0, left / train.decay_steps)
    return train.min_lr_share + (1 - train.min_lr_share) * above_minimum


def set_rates(optimizers: Iterable[torch.optim.Optimizer], share: float) -> None:
    """Give every learning rate of every parameter group this share of what it began with.

    Raises:
        ValueError: for a group without a learning rate.
    """
    for group, name in _all_rates(optimizers):
        group[name] = _base(group, name) * share


def _base(group: dict[str, Any], name: str) -> Any:
    """What a rate began with; `initial_lr` is where PyTorch's own schedulers keep that of `lr`."""
    return group.setdefault(f"initial_{name}", group[name])


class RatesOnDevice:
    """Every learning rate as a number that lies on the device, where a CUDA graph finds it.

    Raises:
        ValueError: for a group without a learning rate.
    """

    def __init__(
        self, optimizers: Iterable[torch.optim.Optimizer], train: TrainOptions, device: torch.device
    ) -> None:
        shares = [rate_share(train, step) for step in range(train.steps)]
        self.shares = torch.tensor(shares, dtype=torch.float64, device=device)
        rates = list(_all_rates(optimizers))
        base = [float(_base(group, name)) for group, name in rates]
        self.base = torch.tensor(base, dtype=torch.float64, device=device)
        self.now = torch.zeros(len(rates), device=device)
        for (group, name), rate in zip(rates, self.now, strict=True):
            group[name] = rate

    def set(self, step: Tensor) -> None:
        """Those of a step (1,) of the run."""
        torch.mul(self.base, self.shares.index_select(0, step), out=self.now)

    def check(self, step: Tensor) -> None:
        """Call after a step.

        Raises:
            WrongClassError: where it has written into a rate.
        """
        found = self.now.clone()
        self.set(step)
        if not torch.equal(found, self.now):
            raise WrongClassError(
                "train.graph_steps: with a schedule a learning rate is a tensor, and the step "
                "writes into it, as `lr = group['lr']; lr *= 2` does. Write `lr = lr * 2`, or "
                "leave out train.graph_steps"
            )


def _all_rates(
    optimizers: Iterable[torch.optim.Optimizer],
) -> Iterator[tuple[dict[str, Any], str]]:
    """Each learning rate: the parameter group, and the key in it."""
    for optimizer in optimizers:
        for group in groups_of(optimizer):
            if not (rates := rates_of(group)):
                raise ValueError(
                    f"{type(optimizer).__name__} has no learning rate `lr` that a schedule could "
                    "change: leave out train.schedule and train.warmup_steps"
                )
            yield from ((group, name) for name in rates)


def groups_of(optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """Its parameter groups, and those of optimizers that it keeps and steps by; each once."""
    inner = as_brought(optimizer)
    found = {id(group): group for group in inner.param_groups}
    for value in vars(inner).values():
        for each in value if isinstance(value, list | tuple) else [value]:
            if isinstance(each, torch.optim.Optimizer):
                found |= {id(group): group for group in groups_of(each)}
    return list(found.values())


def rates_of(group: Mapping[str, Any]) -> list[str]:
    """The keys of a parameter group that are learning rates: `lr`, and each number `..._lr`."""
    return [
        name
        for name, value in group.items()
        if (name == "lr" or name.endswith("_lr"))
        and not name.startswith(BOUNDS)
        and isinstance(value, numbers.Real | np.number | torch.Tensor)
        and not isinstance(value, bool)
    ]


def left_alone(optimizers: Iterable[torch.optim.Optimizer]) -> list[str]:
    """Keys that are called like a rate, and that a schedule does not change; sorted."""
    return sorted(
        {
            name
            for optimizer in optimizers
            for group in groups_of(optimizer)
            for name in group
            if LIKE_A_RATE.search(name)
            and not name.startswith("initial_")
            and name not in rates_of(group)
        }
    )
