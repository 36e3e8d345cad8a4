"""What optimizers that orthogonalise share: the iterations, their cost, and what is AdamW's."""

from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from bench.border.logical import Stack
from bench.border.options import AdamWOptions, MuonOptions, TrueMuonOptions

# Quintic iteration p(s) = a s + b s^3 + c s^5 on the singular values: the slope at zero is as
# steep as it gets while s stays near 1 (between about 0.7 and 1.2), from Jordan et al. 2024.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_EPSILON = 1e-7  # keeps a zero matrix at zero


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


def orthogonalise_in_float32(X: Tensor, steps: int) -> Tensor:
    """The same in float32, whatever X has."""
    return orthogonalise(X.float(), steps)


def orthogonalise_in_bfloat16(X: Tensor, steps: int) -> Tensor:
    """The same in bfloat16 as torch.optim.Muon rounds it, whatever X has.

    bfloat16 has 8 bits: a on the diagonal of B would cost the small numbers there their own. A CPU
    without products of bfloat16 takes ten times as long for them as for products of float32 that
    are rounded afterwards, which is what a GPU does.
    """
    a, b, c = NS_COEFFICIENTS

    def rounded(tensor: Tensor) -> Tensor:
        narrow = tensor.bfloat16()
        return narrow.float() if narrow.is_cpu else narrow

    X = rounded(X)
    X = rounded(X / rounded(torch.linalg.matrix_norm(X, keepdim=True)).clamp(min=NS_EPSILON))
    for _ in range(steps):
        A = rounded(X @ X.mT)  # (n, rows, rows)
        B = rounded(torch.baddbmm(A, A, A, beta=b, alpha=c))
        X = rounded(torch.baddbmm(X, B, X, beta=a))
    return X


def orthogonalise_flops(rows: int, columns: int, steps: int) -> int:
    """Floating-point operations of the products in `orthogonalise` for one matrix."""
    small, large = sorted((rows, columns))
    return steps * (4 * small * small * large + 2 * small**3)


def products_flops(stacks: Iterable[Stack], steps: int) -> int:
    """The same for all logical matrices of these stacks."""
    return sum(
        len(stack.names) * orthogonalise_flops(stack.shape[0], stack.shape[1], steps)
        for stack in stacks
    )


def by_role(stacks: Sequence[Stack], roles: Collection[str]) -> tuple[list[Stack], list[Stack]]:
    """The stacks of these roles, and all others, which are AdamW's."""
    chosen = [stack for stack in stacks if stack.role in roles]
    return chosen, [stack for stack in stacks if stack.role not in roles]


def of_the_rest(options: MuonOptions | TrueMuonOptions) -> AdamWOptions:
    """What AdamW is asked for beside them."""
    return AdamWOptions(lr=options.adamw_lr, weight_decay=options.adamw_weight_decay)
