"""A model drops experts while it trains; its optimizers go on with what they know of the rest."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.optim import Optimizer

from bench.border.logical import Cut
from bench.models.nanokimi import NanoKimi
from bench.optim.leaves import OnLeaves


@dataclass(frozen=True)
class Pruning:
    """Every so many steps; `build` gives fresh optimizers for the model as it is then."""

    model: NanoKimi
    every: int
    build: Callable[[NanoKimi], list[Optimizer]]

    def prune(self, optimizers: list[Optimizer]) -> list[Optimizer]:
        """The optimizers to go on with: the same ones where nothing is left to drop."""
        cuts = self.model.prune()
        if not cuts:
            return optimizers
        fresh = self.build(self.model)
        for before, after in zip(optimizers, fresh, strict=True):
            carry_over(before, after, cuts)
        return fresh


def carry_over(before: Optimizer, after: Optimizer, cuts: Sequence[Cut]) -> None:
    """Settings and state of one optimizer to another, which is new and of the parameters left.

    Where the new one has made room for a state, it is filled in place: others may look at it.

    Raises:
        ValueError: for a state of several dropped tensors of which it is not known what is whose,
            and for an optimizer of other tensors than the model's parameters.
    """
    by_new: dict[Tensor, Cut] = {cut.new: cut for cut in cuts}
    total = sum(each.numel() for group in before.param_groups for each in group["params"])
    for old_group, group in zip(before.param_groups, after.param_groups, strict=True):
        group |= {key: value for key, value in old_group.items() if key != "params"}
    of_all = {key: value for key, value in before.state.items() if not isinstance(key, Tensor)}
    after.state.update(of_all)  # a count under a name, say
    for old, new, cut in _pairs(before, after, by_new):
        state = after.state[new]
        for key, value in before.state[old].items():
            if isinstance(value, Tensor) and old.numel() != value.numel() == total:
                raise ValueError(_NOT_TOLD_APART.format(what=f"of {total} numbers", of="the model"))
            left = _left(value, cut)
            if isinstance(state.get(key), Tensor):
                state[key].copy_(left)
            else:
                state[key] = left


_NOT_TOLD_APART = (
    "an optimizer's state {what} for {of} cannot be told apart by experts, so they cannot be "
    "pruned: give the optimizer `leaves: matrices`, or leave prune_every out"
)


def _pairs(
    before: Optimizer, after: Optimizer, by_new: Mapping[Tensor, Cut]
) -> Iterator[tuple[Tensor, Tensor, Cut | None]]:
    """(old tensor, new tensor, what was cut between them) of all that the new optimizer steps."""
    if isinstance(before, OnLeaves) and isinstance(after, OnLeaves):
        for stack, old, new in zip(
            after.leaves.stacks, before.leaves.by_stack, after.leaves.by_stack, strict=True
        ):
            cut = by_new.get(stack.parameter)
            kept = cut.kept.tolist() if cut else range(len(old))
            for index, leaf in zip(kept, new, strict=True):  # whole tensors: nothing to cut
                yield old[index], leaf, None
        return
    known = {parameter for group in before.param_groups for parameter in group["params"]}
    for group in after.param_groups:
        for parameter in group["params"]:
            cut = by_new.get(parameter)
            was = cut.old if cut else parameter
            if was not in known:
                raise ValueError(
                    f"{type(before).__name__} holds tensors that are not the model's parameters: "
                    "what it knows of them cannot go on without the experts that were dropped. "
                    "Leave out prune_every, or take another optimizer"
                )
            yield was, parameter, cut


def _left(value: object, cut: Cut | None) -> object:
    """What has the parameter's own shape is cut like it; a count of steps, say, is not.

    Nor has a number a row of each part that shape, (parts, rows, 1): whole parts are left of it.
    """
    if isinstance(value, list | tuple):
        return type(value)([_left(each, cut) for each in value])
    if isinstance(value, dict):
        return {key: _left(each, cut) for key, each in value.items()}
    if cut is None or not isinstance(value, Tensor) or value.numel() == 1:
        return value
    if value.dim() == 3 and (len(value), value.shape[-1]) == (cut.n, 1):
        return value[cut.kept]
    if value.shape != cut.old.shape:
        of = f"a stack of {tuple(cut.old.shape)}"
        raise ValueError(_NOT_TOLD_APART.format(what=f"of {tuple(value.shape)}", of=of))
    return cut.of(value)
