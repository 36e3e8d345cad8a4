"""Rows that were sorted into segments, and a product for each segment with a matrix of its own.

Shapes: N tokens, k choices of an expert each, E experts. The N k choices lie expert by expert; the
segment of an expert may be empty, and none is ever cut off.
"""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Order:
    """The N k choices, expert by expert."""

    def __init__(self, chosen: Tensor, load: Tensor) -> None:
        """chosen: (N, k); load: (E,), how often each expert is in it. Waits for a GPU."""
        self.k = chosen.shape[1]
        self.by_expert = chosen.flatten().argsort(stable=True)  # (N k,)
        self.by_token = torch.empty_like(self.by_expert)  # the way back
        self.by_token[self.by_expert] = torch.arange(
            len(self.by_expert), device=self.by_expert.device
        )
        self.sizes: list[int] = load.tolist()  # (E,) rows of each segment


def to_experts(x: Tensor, order: Order) -> Tensor:
    """(N, d) -> (N k, d): each token as often as it chose, expert by expert.

    Forward and backward only read whole rows, in a fixed order: no sum depends on chance, as it
    would where a GPU adds rows at an index.
    """
    rows: Tensor = _ToExperts.apply(x, order)  # type: ignore[no-untyped-call]
    return rows


def to_tokens(rows: Tensor, order: Order) -> Tensor:
    """(N k, d), expert by expert -> (N, k, d)."""
    by_token: Tensor = _ToTokens.apply(rows, order)  # type: ignore[no-untyped-call]
    return by_token


def products(rows: Tensor, matrices: Tensor, vectors: Tensor | None, order: Order) -> Tensor:
    """Each segment of the rows times its expert's matrix, plus its vector where there is one.

    rows (N k, in), matrices (E, in, out) in any layout, vectors (E, out) -> (N k, out). One product
    an expert, written where it belongs: nothing is padded, and an expert without a token costs
    nothing and gets a gradient of zeros.
    """
    device = rows.device.type
    if torch.is_autocast_enabled(device):  # which casts for PyTorch's own products, not for this
        to = torch.get_autocast_dtype(device)
        rows, matrices = rows.to(to), matrices.to(to)
        vectors = None if vectors is None else vectors.to(to)
    out: Tensor = _Products.apply(rows, matrices, vectors, order.sizes)  # type: ignore[no-untyped-call]
    return out


class _ToExperts(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return x.index_select(0, order.by_expert // order.k)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        order = ctx.order
        return _by_token(grad, order).sum(1), None


class _ToTokens(Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, order: Order) -> Tensor:
        ctx.order = order
        return _by_token(rows, order)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return grad.flatten(0, 1).index_select(0, ctx.order.by_expert), None


def _by_token(rows: Tensor, order: Order) -> Tensor:
    return rows.index_select(0, order.by_token).view(-1, order.k, rows.shape[1])


class _Products(Function):
    @staticmethod
    def forward(
        ctx: Any, rows: Tensor, matrices: Tensor, vectors: Tensor | None, sizes: Sequence[int]
    ) -> Tensor:
        ctx.save_for_backward(rows, matrices)
        ctx.sizes, ctx.has_vectors = sizes, vectors is not None
        out = rows.new_empty(len(rows), matrices.shape[2])
        each = repeat(None, len(matrices)) if vectors is None else vectors
        parts = zip(rows.split(sizes), matrices, each, out.split(sizes), strict=True)
        for part, matrix, vector, into in parts:
            if vector is None:
                torch.mm(part, matrix, out=into)
            else:
                torch.addmm(vector, part, matrix, out=into)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        rows, matrices = ctx.saved_tensors
        grad = grad.contiguous()
        of_rows, of_matrices = torch.empty_like(rows), torch.empty_like(matrices)
        upstreams = grad.split(ctx.sizes)
        parts = zip(
            rows.split(ctx.sizes),
            matrices,
            upstreams,
            of_rows.split(ctx.sizes),
            of_matrices,
            strict=True,
        )
        for part, matrix, upstream, of_part, of_matrix in parts:
            torch.mm(upstream, matrix.t(), out=of_part)
            torch.mm(part.t(), upstream, out=of_matrix)
        of_vectors = _sums(upstreams) if ctx.has_vectors else None
        return of_rows, of_matrices, of_vectors, None


def _sums(segments: Sequence[Tensor]) -> Tensor:
    """(E, out): over the rows of each segment."""
    sums = segments[0].new_empty(len(segments), segments[0].shape[1])
    for segment, into in zip(segments, sums, strict=True):
        torch.sum(segment, 0, out=into)
    return sums
