"""TrueMuon: the original's Muon-like optimizer, batched.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces a
matrix's momentum by the nearest semi-orthogonal matrix. The original differs in its momentum
(m <- 0.9 m + 0.1 g, then 0.9 m + g), in its missing scale by shape, and in treating every
head's and every expert's matrix by itself; so do we.
"""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from bench.logical import Stack
from bench.optim import adamw
from bench.optim.groups import by_role
from bench.options import AdamWOptions, TrueMuonOptions

# Quintic iteration p(s) = a s + b s^3 + c s^5 on the singular values: the slope at zero is as
# steep as it gets while s stays near 1 (between about 0.7 and 1.2), from Jordan et al. 2024.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_EPSILON = 1e-7  # keeps a zero matrix at zero

# The momentum form takes 5 operations a number, norm and division 3, decay and update 4.
ELEMENTWISE_FLOPS = 12

MUON_ROLES = ("hidden", "router")


def orthogonalise(X: Tensor, steps: int) -> Tensor:
    """Move every singular value of each matrix towards 1 by Newton-Schulz iterations.

    X: (n, rows, columns) with rows <= columns, so that the inner products are the small ones.
    """
    a, b, c = NS_COEFFICIENTS
    X = X / (torch.linalg.matrix_norm(X, keepdim=True) + NS_EPSILON)
    for _ in range(steps):
        A = X @ X.mT  # (n, rows, rows)
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        X = torch.baddbmm(X, B, X, beta=a)
    return X


def orthogonalise_flops(rows: int, columns: int, steps: int) -> int:
    """Floating-point operations of the products in `orthogonalise` for one matrix."""
    small, large = sorted((rows, columns))
    return steps * (4 * small * small * large + 2 * small**3)


class TrueMuon(torch.optim.Optimizer):
    """Orthogonalised momentum on logical matrices; those of one shape are one batch."""

    def __init__(self, stacks: Sequence[Stack], options: TrueMuonOptions) -> None:
        defaults: dict[str, Any] = {
            "lr": options.lr,
            "momentum": options.momentum,
            "weight_decay": options.weight_decay,
            "ns_steps": options.ns_steps,
        }
        super().__init__([stack.parameter for stack in stacks], defaults)
        self.batches: dict[tuple[int, int], list[Stack]] = defaultdict(list)
        for stack in stacks:
            small, large = sorted(stack.shape)
            self.batches[small, large].append(stack)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        parameters = group["params"]
        gradients = [parameter.grad for parameter in parameters]
        momenta = [self._momentum(parameter) for parameter in parameters]

        torch._foreach_mul_(momenta, group["momentum"])
        torch._foreach_add_(momenta, gradients, alpha=1 - group["momentum"])
        updates = torch._foreach_mul(momenta, group["momentum"])
        torch._foreach_add_(updates, gradients)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])

        update_of = dict(zip(map(id, parameters), updates, strict=True))
        for stacks in self.batches.values():
            wide = [_wide(stack, update_of[id(stack.parameter)]) for stack in stacks]
            orthogonal = orthogonalise(torch.cat(wide), group["ns_steps"])
            for stack, part in zip(stacks, orthogonal.split([len(w) for w in wide]), strict=True):
                _wide(stack, stack.parameter).sub_(part, alpha=group["lr"])

    def _momentum(self, parameter: Tensor) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum: Tensor = state["momentum"]
        return momentum


def _wide(stack: Stack, tensor: Tensor) -> Tensor:
    """The stack's matrices lying down: (n, rows, columns) with rows <= columns."""
    rows, columns = stack.shape
    return stack.view(tensor) if rows <= columns else stack.view(tensor).mT


def build(stacks: Sequence[Stack], options: TrueMuonOptions) -> list[torch.optim.Optimizer]:
    matrices, rest = by_role(stacks, MUON_ROLES)
    return [TrueMuon(matrices, options), *adamw.build(rest, _adamw_options(options))]


def flops_per_step(stacks: Sequence[Stack], options: TrueMuonOptions) -> int:
    matrices, rest = by_role(stacks, MUON_ROLES)
    products = sum(
        len(stack.names) * orthogonalise_flops(stack.shape[0], stack.shape[1], options.ns_steps)
        for stack in matrices
    )
    elementwise = ELEMENTWISE_FLOPS * sum(stack.parameter.numel() for stack in matrices)
    return products + elementwise + adamw.flops_per_step(rest, _adamw_options(options))


def _adamw_options(options: TrueMuonOptions) -> AdamWOptions:
    return AdamWOptions(lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)
