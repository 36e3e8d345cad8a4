"""Names -> models and optimizers. The one place where the two meet; an entry adds one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.border.logical import Stack
from bench.border.options import OWN, OwnOptimizer
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, muon, muonclip, sgd, truemuon
from bench.worker import own_optimizer
from bench.worker.own_model import BroughtModel


@dataclass(frozen=True)
class OptimizerEntry:
    build: Callable[[Sequence[Stack], Any], list[torch.optim.Optimizer]]
    flops_per_step: Callable[[Sequence[Stack], Any], int | None]  # None: unknown


def _build_own(stacks: Sequence[Stack], options: OwnOptimizer) -> list[torch.optim.Optimizer]:
    built_in = {base: entry.build for base, entry in OPTIMIZERS.items() if base != OWN}
    return own_optimizer.build(stacks, options, built_in)


MODELS: dict[str, Callable[[Any, int, int], Decoder | BroughtModel]] = {
    "nanogpt": nanogpt.build,
    "nanokimi": nanokimi.build,
    OWN: BroughtModel,
}
OPTIMIZERS: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(adamw.build, adamw.flops_per_step),
    "sgd": OptimizerEntry(sgd.build, sgd.flops_per_step),
    "truemuon": OptimizerEntry(truemuon.build, truemuon.flops_per_step),
    OWN: OptimizerEntry(_build_own, lambda stacks, options: None),
    "muon": OptimizerEntry(muon.build, muon.flops_per_step),
    "muonclip": OptimizerEntry(muonclip.build, muonclip.flops_per_step),
}
