"""Names -> models and optimizers. The one place where the two meet; an entry adds one."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bench.border.logical import Stack
from bench.border.options import OWN, OwnOptimizer
from bench.border.spec import Optimizer
from bench.models import nanogpt, nanokimi
from bench.models.decoder import Decoder
from bench.optim import adamw, muon, muonclip, sgd, truemuon
from bench.worker import own_optimizer
from bench.worker.own_model import BroughtModel


@dataclass(frozen=True)
class OptimizerEntry:
    build: Callable[[Sequence[Stack], Any], list[torch.optim.Optimizer]]
    flops_per_step: Callable[[Sequence[Stack], Any], int]


MODELS: dict[str, Callable[[Any, int, int], Decoder | BroughtModel]] = {
    "nanogpt": nanogpt.build,
    "nanokimi": nanokimi.build,
    OWN: BroughtModel,
}
OPTIMIZERS: dict[str, OptimizerEntry] = {
    "adamw": OptimizerEntry(adamw.build, adamw.flops_per_step),
    "sgd": OptimizerEntry(sgd.build, sgd.flops_per_step),
    "truemuon": OptimizerEntry(truemuon.build, truemuon.flops_per_step),
    "muon": OptimizerEntry(muon.build, muon.flops_per_step),
    "muonclip": OptimizerEntry(muonclip.build, muonclip.flops_per_step),
}


def build_optimizers(
    asked: Optimizer, model: Decoder | BroughtModel
) -> list[torch.optim.Optimizer]:
    stacks = model.stacks()
    if isinstance(asked.options, OwnOptimizer):
        if not isinstance(model, BroughtModel):  # of which each drawing is a new module
            forget_hooks(model)
        built_in = {base: entry.build for base, entry in OPTIMIZERS.items()}
        module = model.module if isinstance(model, BroughtModel) else model
        return own_optimizer.build(module, stacks, asked.options, built_in)
    return OPTIMIZERS[asked.base].build(stacks, asked.options)


def forget_hooks(model: Decoder) -> None:
    """Take away what an earlier optimizer has hung on the model's parameters and modules.

    The same model goes on after warm-up and after a pruning, and another optimizer hangs it anew.
    """
    for parameter in model.parameters():
        for hooks in (parameter._backward_hooks, parameter._post_accumulate_grad_hooks):
            if hooks is not None:
                hooks.clear()
    for module in model.modules():
        for name, hooks in vars(module).items():
            if name.endswith("_hooks"):
                hooks.clear()


def flops_per_step(asked: Optimizer, stacks: Sequence[Stack]) -> int | None:
    """Operations of a step of the optimizers; None: those of a class are unknown."""
    if asked.base == OWN:
        return None
    return OPTIMIZERS[asked.base].flops_per_step(stacks, asked.options)
