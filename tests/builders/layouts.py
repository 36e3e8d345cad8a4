"""Tensors that lie in memory in every way, and gradients that lie otherwise than they."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from bench.border.logical import Stack

# Each makes, of a shape, a view and the tensor that it is a part of.
Layout = Callable[[tuple[int, ...], torch.dtype], tuple[Tensor, Tensor]]


def contiguous(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(shape, dtype=dtype)
    return base, base


def sliced(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Every second number of the last dimension, or one of a vector."""
    if not shape:
        base = torch.randn(3, dtype=dtype)
        return base[1], base
    base = torch.randn((*shape[:-1], 2 * shape[-1] + 1), dtype=dtype)
    return base[..., 1::2], base


def columns(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if not shape:
        return sliced(shape, dtype)
    base = torch.randn((*shape[:-1], 3 * shape[-1]), dtype=dtype)
    return base.chunk(3, -1)[1] if shape[-1] else base, base


def transposed(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(shape[::-1], dtype=dtype)
    return turned(base), base


def turned(tensor: Tensor) -> Tensor:
    """Its dimensions in the opposite order."""
    return tensor.permute(tuple(reversed(range(tensor.ndim))))


def channels_last(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    if len(shape) < 3:
        return transposed(shape, dtype)
    base = torch.randn((shape[0], *shape[2:], shape[1]), dtype=dtype)
    return base.movedim(-1, 1), base


def expanded(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn((1, *shape[1:]), dtype=dtype)
    return base.expand(shape) if shape else base[0], base


def overlapping(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    base = torch.randn(sum(shape) + 1, dtype=dtype)
    return base.as_strided(shape, (1,) * len(shape)), base


LAYOUTS = [contiguous, sliced, columns, transposed, channels_last, expanded, overlapping]


def gradient(like: Tensor, kind: str) -> Tensor | None:
    value = torch.randn(like.shape, dtype=like.dtype)
    match kind:
        case "none":
            return None
        case "alike":
            return torch.empty_like(like).copy_(value)
        case "transposed":
            return turned(turned(value).contiguous())
        case "expanded":
            return torch.randn((), dtype=like.dtype).expand(like.shape)
        case "sparse" if like.ndim and like.numel():
            return value.to_sparse()
    return value


def stacks_of(*tensors: nn.Parameter) -> list[Stack]:
    return [
        Stack((f"p{index}",), "vector", each, tuple(each.shape))
        for index, each in enumerate(tensors)
    ]


def step_all(optimizers: list[torch.optim.Optimizer]) -> None:
    for optimizer in optimizers:
        optimizer.step()
