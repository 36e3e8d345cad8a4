"""Names -> models and optimizers. The one place where the two meet; an entry adds one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.logical import Stack
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, muon, muonclip, sgd, truemuon


@dataclass(frozen=True)
class OptimizerEntry:
    build: Callable[[Sequence[Stack], Any], list[torch.optim.Optimizer]]
    flops_per_step: Callable[[Sequence[Stack], Any], int]


MODELS: dict[str, Callable[[Any, int, int], Decoder]] = {
    "nanogpt": nanogpt.build,
    "nanokimi": nanokimi.build,
}
OPTIMIZERS: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(adamw.build, adamw.flops_per_step),
    "sgd": OptimizerEntry(sgd.build, sgd.flops_per_step),
    "truemuon": OptimizerEntry(truemuon.build, truemuon.flops_per_step),
    "muon": OptimizerEntry(muon.build, muon.flops_per_step),
    "muonclip": OptimizerEntry(muonclip.build, muonclip.flops_per_step),
}
