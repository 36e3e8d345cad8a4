"""One leaf a logical tensor, for optimizers that know matrices and nothing of stacks."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.optim.memory import refuse_repeats, refuse_sparse, repeats_memory

Closure = Callable[[], Tensor]


class Leaves:
    """The logical tensors of some stacks, a contiguous leaf each, of the shape they mean.

    Where a parameter holds its matrices as they are, a leaf is a view of it. Where it holds them
    transposed, or has other numbers between them, a leaf is a copy: `gather` before a step
    refreshes it, `scatter` writes it back.
    """

    def __init__(self, stacks: Sequence[Stack]) -> None:
        self.stacks = tuple(stacks)
        self.repeating = [stack for stack in stacks if repeats_memory(stack.parameter)]
        # (n, *shape) each
        self.values = [stack.view(stack.parameter.detach()).contiguous() for stack in self.stacks]
        self.by_stack = [[nn.Parameter(leaf) for leaf in values] for values in self.values]

    @property
    def tensors(self) -> list[Tensor]:
        """All leaves: (rows, columns) a matrix, (length,) a vector."""
        return [leaf for leaves in self.by_stack for leaf in leaves]

    def of(self, stack: Stack) -> Sequence[Tensor]:
        """The leaves of one of the stacks."""
        return self.by_stack[self.stacks.index(stack)]

    @torch.no_grad()
    def gather(self) -> None:
        """Give every leaf its part of its parameter: the gradient, and the values of a copy.

        Raises:
            ValueError: for a gradient that is sparse, or of a parameter that repeats its memory.
        """
        refuse_repeats(self.repeating)
        for stack, values, leaves in zip(self.stacks, self.values, self.by_stack, strict=True):
            if _is_copy(values, stack):
                values.copy_(stack.view(stack.parameter))
            gradient = stack.parameter.grad
            if gradient is None:
                for leaf in leaves:
                    leaf.grad = None
                continue
            refuse_sparse(stack, "an optimizer of single matrices")
            parts = stack.view(gradient.contiguous()).contiguous()
            for leaf, part in zip(leaves, parts, strict=True):
                leaf.grad = part

    @torch.no_grad()
    def scatter(self) -> None:
        """Write the leaves that are copies back into their parameters."""
        for stack, values in zip(self.stacks, self.values, strict=True):
            if _is_copy(values, stack) and stack not in self.repeating:  # those never change
                stack.view(stack.parameter).copy_(values)


def _is_copy(values: Tensor, stack: Stack) -> bool:
    return values.data_ptr() != stack.parameter.data_ptr()


def as_brought(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer that its author knows, which may be one over leaves."""
    return optimizer.inner if isinstance(optimizer, OnLeaves) else optimizer


def step_by(optimizer: torch.optim.Optimizer, closure: Any) -> Any:
    """A step with a closure, which some take by its name alone."""
    asked = inspect.signature(optimizer.step).parameters.get("closure")
    if asked is not None and asked.kind is asked.KEYWORD_ONLY:
        return optimizer.step(closure=closure)
    return optimizer.step(closure)


class OnLeaves(torch.optim.Optimizer):
    """An optimizer over leaves, which steps as one over the parameters that they are parts of.

    Parameter groups, settings and state are the inner optimizer's own, of the leaves.
    """

    def __init__(self, leaves: Leaves, inner: torch.optim.Optimizer) -> None:
        # Not the base's: it would make groups and a state beside the inner ones.
        self.leaves = leaves
        self.inner = inner

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return self.inner.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.inner.state

    @property
    def defaults(self) -> dict[str, Any]:  # type: ignore[override]
        return self.inner.defaults

    def step(self, closure: Closure | None = None) -> Any:  # type: ignore[override]
        self.leaves.gather()
        loss = (
            self.inner.step() if closure is None else step_by(self.inner, self._on_leaves(closure))
        )
        self.leaves.scatter()
        return loss

    def _on_leaves(self, closure: Closure) -> Any:
        """The closure as the inner optimizer needs it: it may move leaves before each call."""

        def on_leaves() -> Tensor:
            self.leaves.scatter()
            loss = closure()
            self.leaves.gather()
            return loss

        return on_leaves

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.inner.zero_grad()
        for stack in self.leaves.stacks:
            stack.parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.inner.load_state_dict(state_dict)

    def train(self) -> None:
        """For optimizers whose weights differ between training and evaluation."""
        self._switch("train")

    def eval(self) -> None:
        self._switch("eval")

    def _switch(self, mode: str) -> None:
        change = getattr(self.inner, mode, None)
        if inspect.isroutine(change):
            self.leaves.gather()
            change()
            self.leaves.scatter()
