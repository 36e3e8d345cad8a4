"""Second moments of orthogonalised updates: large rows or numbers shrink, the matrix's norm stays.

Li et al. 2025, "NorMuon: making Muon more efficient and scalable" (arXiv 2510.05491), keep one a
row, which is a neuron; Si et al. 2025, "AdaMuon: adaptive Muon optimizer" (arXiv 2507.11005), one
a number. A norm that stays makes the correction of an average that began at 0 needless: it is one
factor for the whole matrix.
"""

from typing import Literal

import torch
from torch import Tensor

from bench.border.logical import Stack

Kind = Literal["none", "rows", "elements"]

EPSILON = 1e-8  # keeps a row of zeros, and a matrix of zeros, at zero

# Elementwise operations a number of the matrix: square 1, division 1, both norms 4, their ratio 1;
# the mean over a row. Of the second moment: average 3, denominator 2.
FLOPS_PER_NUMBER = 7
FLOPS_PER_NUMBER_OF_ROWS = 8
FLOPS_PER_MOMENT = 5


def shape(stack: Stack, kind: Kind) -> tuple[int, ...]:
    """Of a stack's second moment: (n, rows, 1), or the parameter's own."""
    match kind:
        case "none":
            return (0,)
        case "rows":
            return (len(stack.names), stack.shape[0], 1)
        case "elements":
            return tuple(stack.parameter.shape)


def divide(matrices: Tensor, moment: Tensor, beta2: float) -> None:
    """O <- O / (sqrt(v) + epsilon), scaled to O's old norm, with v <- beta2 v + (1 - beta2) O^2.

    matrices: O, (n, rows, columns), changed in place.
    moment: v, likewise: (n, rows, 1) for the mean of O^2 over each row, else of O's shape.
    """
    squares = matrices.square()
    if moment.shape != matrices.shape:
        squares = squares.mean(-1, keepdim=True)
    moment.lerp_(squares, 1 - beta2)
    norm = torch.linalg.matrix_norm(matrices, keepdim=True)  # (n, 1, 1)
    matrices.div_(moment.sqrt().add_(EPSILON))
    matrices.mul_(norm / torch.linalg.matrix_norm(matrices, keepdim=True).clamp(min=EPSILON))


def flops(stack: Stack, kind: Kind) -> int:
    """Of one step for all matrices of a stack."""
    if kind == "none":
        return 0
    a_number = FLOPS_PER_NUMBER_OF_ROWS if kind == "rows" else FLOPS_PER_NUMBER
    moments = torch.Size(shape(stack, kind)).numel()
    return a_number * stack.parameter.numel() + FLOPS_PER_MOMENT * moments
