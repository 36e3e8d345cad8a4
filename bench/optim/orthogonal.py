"""What optimizers that orthogonalise share: the iterations, their cost, and what is AdamW's."""

from collections.abc import Collection, Iterable, Sequence
from itertools import chain, islice, repeat
from typing import Literal

import torch
from torch import Tensor

from bench.border.logical import Stack
from bench.border.options import AdamWOptions, MuonOptions, TrueMuonOptions

# Quintic iteration p(s) = a s + b s^3 + c s^5 on the singular values: the slope at zero is as
# steep as it gets while s stays near 1 (between about 0.7 and 1.2), from Jordan et al. 2024.
NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NS_EPSILON = 1e-7  # keeps a zero matrix at zero

# Amsel, Persson, Musco and Gower 2025, "The Polar Express" (arXiv 2505.16932): each iteration has
# the quintic that is nearest to 1, in its largest error, on the interval that the ones before it
# have led [0.001, 1] to. The interval's lower end counts as no less than 0.02407327424182761 of its
# upper one, so that small values are not neglected for it; what that moves off 1 is scaled back.
# tests/optim/test_polynomials.py computes all eight anew. From the last one on they stay the same.
POLAR_EXPRESS = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
# Likewise theirs: all but the last take x / 1.01 for x, since rounding may carry a value past the
# interval, outside of which a quintic soon grows without bound.
SAFETY = 1.01

Coefficients = Literal["jordan", "polar_express"]
Polynomial = tuple[float, float, float]


def polynomials(coefficients: Coefficients, steps: int) -> list[Polynomial]:
    """(a, b, c) of each iteration's a s + b s^3 + c s^5 on the singular values."""
    if coefficients == "jordan":
        return [NS_COEFFICIENTS] * steps
    *first, last = POLAR_EXPRESS
    safe = [(a / SAFETY, b / SAFETY**3, c / SAFETY**5) for a, b, c in first]
    return list(islice(chain(safe, repeat(last)), steps))


def orthogonalise(X: Tensor, steps: int, coefficients: Coefficients = "jordan") -> Tensor:
    """Move every singular value of each matrix towards 1 by Newton-Schulz iterations.

    X: (n, rows, columns) with rows <= columns, so that the inner products are the small ones.
    """
    X = X / (torch.linalg.matrix_norm(X, keepdim=True) + NS_EPSILON)
    for a, b, c in polynomials(coefficients, steps):
        A = X @ X.mT  # (n, rows, rows)
        B = torch.baddbmm(A, A, A, beta=b, alpha=c)
        B.diagonal(dim1=1, dim2=2).add_(a)  # (a I + B) X spares a copy of X in a X + B X
        X = B @ X
    return X


def orthogonalise_in_float32(
    X: Tensor, steps: int, coefficients: Coefficients = "jordan"
) -> Tensor:
    """The same in float32, whatever X has."""
    return orthogonalise(X.float(), steps, coefficients)


def orthogonalise_in_bfloat16(
    X: Tensor, steps: int, coefficients: Coefficients = "jordan"
) -> Tensor:
    """The same in bfloat16 as torch.optim.Muon rounds it, whatever X has.

    bfloat16 has 8 bits: a on the diagonal of B would cost the small numbers there their own. A CPU
    without products of bfloat16 takes ten times as long for them as for products of float32 that
    are rounded afterwards, which is what a GPU does.
    """

    def rounded(tensor: Tensor) -> Tensor:
        narrow = tensor.bfloat16()
        return narrow.float() if narrow.is_cpu else narrow

    X = rounded(X)
    X = rounded(X / rounded(torch.linalg.matrix_norm(X, keepdim=True)).clamp(min=NS_EPSILON))
    for a, b, c in polynomials(coefficients, steps):
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
