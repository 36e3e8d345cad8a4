"""Parameters without values yet, and the logical tensors of biases."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from bench.border.logical import Stack


def empty(*shape: int) -> nn.Parameter:
    """A parameter without values; `initialise` draws them from its logical tensors' streams."""
    return nn.Parameter(torch.empty(*shape))


def bias_stacks(
    names: Sequence[str],
    bias: nn.Parameter | None,
    length: int,
    fan_in: int,
    active: int | None = None,
) -> Iterator[Stack]:
    """The stack of the biases of so many layers, each of this length; none where they have none."""
    if bias is not None:
        yield Stack(tuple(names), "vector", bias, (length,), fan_in=fan_in, active=active)
