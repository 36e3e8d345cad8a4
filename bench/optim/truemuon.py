"""TrueMuon: the original's Muon-like optimizer, batched.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces a
matrix's momentum by the nearest semi-orthogonal matrix. The original differs in its momentum
(m <- 0.9 m + 0.1 g, then 0.9 m + g), in its missing scale by shape, in treating every head's
matrix by itself, and the router as a hidden matrix; so do we, unless a switch asks for Muon's way.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.logical import Stack
from bench.optim import adamw
from bench.optim.groups import by_role
from bench.optim.orthogonal import orthogonalise, products_flops
from bench.options import AdamWOptions, TrueMuonOptions

# The momentum form takes 5 operations a number, norm and division 3, decay and update 4.
ELEMENTWISE_FLOPS = 12
NESTEROV_FLOPS = 1  # more: g is weighted too
SCALE_FLOPS = 1


class TrueMuon(torch.optim.Optimizer):
    """Orthogonalised momentum on logical matrices; those of one shape in memory are one batch.

    Momenta of all matrices lie in one tensor, batch by batch, and so do the gradients once they
    are gathered: what is elementwise is one operation, and a batch is a slice of it.
    """

    def __init__(self, stacks: Sequence[Stack], options: TrueMuonOptions) -> None:
        stacks = sorted(stacks, key=_stored_shape)
        defaults: dict[str, Any] = {
            "lr": options.lr,
            "momentum": options.momentum,
            "weight_decay": options.weight_decay,
            "ns_steps": options.ns_steps,
            "nesterov": options.momentum_form == "nesterov",
        }
        super().__init__([stack.parameter for stack in stacks], defaults)
        parameters = [stack.parameter.detach() for stack in stacks]
        self.momentum = torch.cat([torch.zeros_like(each).flatten() for each in parameters])
        self.update = torch.empty_like(self.momentum)
        self.updates = _parts(self.update, parameters)
        for stack, part in zip(stacks, _parts(self.momentum, parameters), strict=True):
            self.state[stack.parameter]["momentum"] = part
        self.batches = _batches(self.update, stacks)
        self.scales = [_scale(stack.shape, options.update_scale) for stack in stacks]
        self.scaled = options.update_scale != "none"

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        parameters, beta = group["params"], group["momentum"]

        torch._foreach_copy_(self.updates, [parameter.grad for parameter in parameters])
        self.momentum.lerp_(self.update, 1 - beta)  # m <- beta m + (1 - beta) g
        if group["nesterov"]:
            self.update.lerp_(self.momentum, beta)  # (1 - beta) g + beta m
        else:
            self.update.add_(self.momentum, alpha=beta)  # g + beta m
        for wide in self.batches:
            wide.copy_(orthogonalise(wide, group["ns_steps"]))
        if self.scaled:
            torch._foreach_mul_(self.updates, self.scales)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, self.updates, alpha=-group["lr"])


def _scale(shape: tuple[int, ...], form: str) -> float:
    """What a logical matrix's orthogonal update is multiplied by, as PyTorch's Muon does it."""
    rows, columns = shape
    match form:
        case "sqrt_ratio":  # Jordan et al. 2024
            return math.sqrt(max(1.0, rows / columns))
        case "match_rms":  # Liu et al. 2025: the RMS of AdamW's updates, 0.2 to 0.4
            return 0.2 * math.sqrt(max(rows, columns))
        case _:
            return 1.0


def _stored_shape(stack: Stack) -> tuple[int, int]:
    """Of one matrix, as it lies in memory."""
    rows, columns = stack.shape
    return (columns, rows) if stack.transposed else (rows, columns)


def _parts(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Views of a flat tensor, one after another, in these tensors' shapes."""
    pieces = flat.split([each.numel() for each in like])
    return [piece.view_as(each) for piece, each in zip(pieces, like, strict=True)]


def _batches(flat: Tensor, stacks: Sequence[Stack]) -> list[Tensor]:
    """Views of a flat tensor: the matrices of each stored shape, lying: (n, rows <= columns).

    A matrix and its transpose have the same singular values, so it does not matter which of the
    two is stored.
    """
    counts = Counter[tuple[int, int]]()
    for stack in stacks:  # sorted by that shape
        counts[_stored_shape(stack)] += len(stack.names)
    pieces = flat.split([n * rows * columns for (rows, columns), n in counts.items()])
    stacked = [piece.view(-1, *shape) for piece, shape in zip(pieces, counts, strict=True)]
    return [each if each.shape[1] <= each.shape[2] else each.mT for each in stacked]


def _divide(stacks: Sequence[Stack], options: TrueMuonOptions) -> tuple[list[Stack], list[Stack]]:
    """The stacks whose matrices are orthogonalised, as they are, and AdamW's."""
    roles = ("hidden", "router") if options.router == "truemuon" else ("hidden",)
    matrices, rest = by_role(stacks, roles)
    if options.heads == "together":
        matrices = [stack.joined() for stack in matrices]
    return matrices, rest


def build(stacks: Sequence[Stack], options: TrueMuonOptions) -> list[torch.optim.Optimizer]:
    matrices, rest = _divide(stacks, options)
    muon = [TrueMuon(matrices, options)] if matrices else []
    return [*muon, *adamw.build(rest, _adamw_options(options))]


def flops_per_step(stacks: Sequence[Stack], options: TrueMuonOptions) -> int:
    matrices, rest = _divide(stacks, options)
    products = products_flops(matrices, options.ns_steps)
    a_number = ELEMENTWISE_FLOPS
    a_number += NESTEROV_FLOPS * (options.momentum_form == "nesterov")
    a_number += SCALE_FLOPS * (options.update_scale != "none")
    elementwise = a_number * sum(stack.parameter.numel() for stack in matrices)
    return products + elementwise + adamw.flops_per_step(rest, _adamw_options(options))


def _adamw_options(options: TrueMuonOptions) -> AdamWOptions:
    return AdamWOptions(lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)
