"""A model drops experts while it trains; its optimizers go on with what they know of the rest."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from bench.logical import Cut, Stack
from bench.models.nanokimi import NanoKimi


@dataclass(frozen=True)
class Pruning:
    """Every so many steps; `build` gives fresh optimizers for the stacks of a model."""

    model: NanoKimi
    every: int
    build: Callable[[Sequence[Stack]], list[Optimizer]]

    def prune(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """The optimizers to go on with: the same ones where nothing is left to drop."""
        cuts = self.model.prune()
        if not cuts:
            return optimizers
        fresh = self.build(self.model.stacks())
        for before, after in zip(optimizers, fresh, strict=True):
            carry_over(before, after, cuts)
        return fresh


def carry_over(before: Optimizer, after: Optimizer, cuts: Sequence[Cut]) -> None:
    """Settings and state of one optimizer to another, which is new and of the parameters left.

    Where the new one has made room for a state, it is filled in place: others may look at it.

    Raises:
        ValueError: if it holds other tensors than the model's parameters, which no cut names.
    """
    by_new = {cut.new: cut for cut in cuts}
    known = {parameter for group in before.param_groups for parameter in group["params"]}
    for old_group, group in zip(before.param_groups, after.param_groups, strict=True):
        group |= {key: value for key, value in old_group.items() if key != "params"}
        for parameter in group["params"]:
            cut = by_new.get(parameter)
            was = cut.old if cut else parameter
            if was not in known:
                raise ValueError(
                    f"{type(before).__name__} holds tensors that are not the model's parameters: "
                    "what it knows of them cannot go on without the experts that were dropped. "
                    "Leave out prune_every, or take another optimizer"
                )
            state = after.state[parameter]
            for key, value in before.state[was].items():
                left = _left(value, cut)
                if isinstance(state.get(key), Tensor):
                    state[key].copy_(left)
                else:
                    state[key] = left


def _left(value: object, cut: Cut | None) -> object:
    """What has the parameter's own shape is cut like it; a count of steps, say, is not."""
    if cut is not None and isinstance(value, Tensor) and value.shape == cut.old.shape:
        return cut.of(value)
    return value
