"""TrueMuon: the original's Muon-like optimizer, batched.

Muon (Jordan et al. 2024, "Muon: an optimizer for hidden layers in neural networks") replaces a
matrix's momentum by the nearest semi-orthogonal matrix. The original differs in its momentum
(m <- 0.9 m + 0.1 g, then 0.9 m + g), in its missing scale by shape, and in treating every
head's and every expert's matrix by itself; so do we.
"""

from collections import Counter
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
        B.diagonal(dim1=1, dim2=2).add_(a)  # (a I + B) X spares a copy of X in a X + B X
        X = B @ X
    return X


def orthogonalise_flops(rows: int, columns: int, steps: int) -> int:
    """Floating-point operations of the products in `orthogonalise` for one matrix."""
    small, large = sorted((rows, columns))
    return steps * (4 * small * small * large + 2 * small**3)


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
        }
        super().__init__([stack.parameter for stack in stacks], defaults)
        parameters = [stack.parameter.detach() for stack in stacks]
        self.momentum = torch.cat([torch.zeros_like(each).flatten() for each in parameters])
        self.update = torch.empty_like(self.momentum)
        self.updates = _parts(self.update, parameters)
        for stack, part in zip(stacks, _parts(self.momentum, parameters), strict=True):
            self.state[stack.parameter]["momentum"] = part
        self.batches = _batches(self.update, stacks)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Values of a saved state, put where the step reads them: parts of one tensor."""
        super().load_state_dict(state_dict)
        (group,) = self.param_groups
        parts = _parts(self.momentum, group["params"])
        for parameter, part in zip(group["params"], parts, strict=True):
            part.copy_(self.state[parameter]["momentum"])
            self.state[parameter]["momentum"] = part

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        parameters, beta = group["params"], group["momentum"]

        torch._foreach_copy_(self.updates, [parameter.grad for parameter in parameters])
        self.momentum.lerp_(self.update, 1 - beta)  # m <- beta m + (1 - beta) g
        self.update.add_(self.momentum, alpha=beta)  # g + beta m
        for wide in self.batches:
            wide.copy_(orthogonalise(wide, group["ns_steps"]))
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, self.updates, alpha=-group["lr"])


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


def build(stacks: Sequence[Stack], options: TrueMuonOptions) -> list[torch.optim.Optimizer]:
    matrices, rest = by_role(stacks, MUON_ROLES)
    muon = [TrueMuon(matrices, options)] if matrices else []
    return [*muon, *adamw.build(rest, _adamw_options(options))]


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
