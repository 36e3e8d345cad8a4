"""Learning rates over a run: which share of its base rate each step takes."""

import math
from collections.abc import Iterable

import torch

from bench.border.options import TrainOptions


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
    """Give every parameter group this share of its own base rate, kept where PyTorch keeps it.

    Raises:
        ValueError: for a group without a learning rate.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if "lr" not in group:
                raise ValueError(
                    f"{type(optimizer).__name__} has no learning rate `lr` that a schedule could "
                    "change: leave out train.schedule and train.warmup_steps"
                )
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * share
