"""Logical tensors: what a parameter means, apart from how it lies in memory.

A model computes fastest with stacked tensors (all heads' projections in one matrix), while
initialisation and optimizers care about each head's own matrix. A `Stack` joins the two views;
it is all that an optimizer needs to know of a model.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from bench.border.options.own import Role

Init = Literal["uniform", "normal", "ones", "zeros"]


@dataclass
class AttentionLogits:
    """The largest attention logit of each head, for an optimizer that asks for it.

    An attention layer keeps one and names it in the stack of its projections. While it is asked,
    each forward pass in training leaves its logits here: after scaling, over the batch, each query
    with the keys that it may see.
    """

    asked: bool = False
    largest: Tensor | None = None  # (heads,)


@dataclass(frozen=True)
class Stack:
    """n logical tensors of one role and one shape that lie stacked in one parameter."""

    names: tuple[str, ...]  # n names; a name is a logical tensor's random stream
    role: Role
    parameter: nn.Parameter
    shape: tuple[int, ...]  # of one logical tensor: (rows, columns), or (length,) for a vector
    init: Init = "uniform"
    fan_in: int = 0  # inputs a weight sums over; gives the bound of the uniform draw
    transposed: bool = False  # the parameter stores each matrix as (columns, rows)
    heads: int = 1  # so many matrices, one after another, are the heads of one projection
    logits: AttentionLogits | None = None  # of these heads; the first projections: query, key
    active: int | None = None  # how many of the n one token uses; all where not given

    def __post_init__(self) -> None:
        logical = len(self.names) * torch.Size(self.shape).numel()
        if logical != self.parameter.numel():
            raise ValueError(
                f"{self.names[0]}: {len(self.names)} tensors of {self.shape} are {logical} "
                f"numbers, the parameter has {self.parameter.numel()}"
            )
        if len(self.names) % self.heads or (self.transposed and self.heads > 1):
            raise ValueError(
                f"{self.names[0]}: {len(self.names)} matrices are no projections of {self.heads} "
                "heads: give a multiple of them, stored as (rows, columns)"
            )
        try:
            self.view(self.parameter.detach())
        except RuntimeError as error:
            raise ValueError(
                f"{self.names[0]}: in memory the numbers of a parameter of shape "
                f"{tuple(self.parameter.shape)} and strides {self.parameter.stride()} are not "
                f"{len(self.names)} tensors of {self.shape}, one after another. Make it contiguous:"
                " nn.Parameter(tensor.contiguous())"
            ) from error

    def view(self, tensor: Tensor) -> Tensor:
        """The parameter, its gradient or an optimizer's state of it, as (n, *shape)."""
        if self.transposed:
            rows, columns = self.shape
            return tensor.view(len(self.names), columns, rows).mT
        return tensor.view(len(self.names), *self.shape)

    def joined(self) -> "Stack":
        """The same parameter with all heads of a projection as one matrix, named as the first."""
        if self.heads == 1:
            return self
        rows, columns = self.shape
        shape = (self.heads * rows, columns)
        return replace(self, names=self.names[:: self.heads], shape=shape, heads=1)

    def n_active(self) -> int:
        """Numbers of the parameter that one token uses."""
        n = len(self.names)
        return self.parameter.numel() // n * (n if self.active is None else self.active)


@dataclass(frozen=True)
class Cut:
    """A parameter of n equal parts, one after another in memory, that was left with some of them.

    It is all that whoever keeps something about the parameter, an optimizer's state of it for
    example, needs to know.
    """

    old: nn.Parameter
    new: nn.Parameter
    kept: Tensor  # (n_kept,) which parts, in ascending order
    n: int

    def of(self, tensor: Tensor) -> Tensor:
        """What is left of a tensor of the old parameter's shape: one of the new one's."""
        return tensor.reshape(self.n, -1)[self.kept].view_as(self.new)


def cut(module: nn.Module, name: str, kept: Tensor, n: int) -> Cut:
    """Leave a module's parameter with these of its n parts; it becomes another parameter."""
    old: nn.Parameter = getattr(module, name)
    rows, *rest = old.shape
    parts = old.detach().reshape(n, -1)[kept]
    new = nn.Parameter(parts.view(rows // n * len(kept), *rest))
    setattr(module, name, new)
    return Cut(old, new, kept, n)


@torch.no_grad()
def initialise(stacks: Iterable[Stack], generator: Callable[[str], torch.Generator]) -> None:
    """Give every logical tensor PyTorch's default initialisation from a stream of its own.

    Linear weights and biases: uniform within ±1/sqrt(fan_in), which is what `nn.Linear` draws;
    embeddings: standard normal. Each is drawn on the CPU in float32, so that it depends on
    (seed, name, shape) alone: not on the device, not on the model around it, not on stacking.
    """
    for stack in stacks:
        for name, target in zip(stack.names, stack.view(stack.parameter.detach()), strict=True):
            target.copy_(_draw(stack, generator(name)))


def _draw(stack: Stack, generator: torch.Generator) -> Tensor:
    value = torch.empty(stack.shape, dtype=torch.float32)
    match stack.init:
        case "uniform":
            bound = stack.fan_in**-0.5
            return value.uniform_(-bound, bound, generator=generator)
        case "normal":
            return value.normal_(generator=generator)
        case "ones":
            return value.fill_(1.0)
        case "zeros":
            return value.zero_()


def assert_covers(stacks: Iterable[Stack], model: nn.Module) -> None:
    """Every parameter of the model belongs to exactly one stack."""
    named = [id(stack.parameter) for stack in stacks]
    parameters = [id(parameter) for parameter in model.parameters()]
    assert sorted(named) == sorted(parameters), (
        f"{len(named)} stacks name {len(set(named))} of {len(parameters)} parameters"
    )
