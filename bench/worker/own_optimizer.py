"""Optimizers that the matrix names by class: which of them gets what, and in what form."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from bench.border.logical import Stack
from bench.border.options import OPTIMIZER_OPTIONS, OwnOptimizer
from bench.border.options.own import OTHER
from bench.border.spec import Optimizer as Asked
from bench.optim.leaves import Leaves, OnLeaves, as_brought
from bench.worker.classes import (
    LEFT_OVER,
    WrongClassError,
    arguments,
    check_arguments,
    load,
    method,
    named,
    parameters,
    unknown_argument,
)

# The attribute by which we mark one that gets a closure because the matrix says so.
WANTS_CLOSURE = "_wants_closure_by_matrix"

Optimizers = list[Optimizer]
Build = Callable[[Sequence[Stack], Any], Optimizers]
Group = tuple[Sequence[Stack], Mapping[str, Any]]  # what it is of, and its settings


def build(
    model: nn.Module,
    stacks: Sequence[Stack],
    options: OwnOptimizer,
    built_in: Mapping[str, Build],
) -> Optimizers:
    """The optimizers of a variant: its own class, and those of groups that name another.

    `stacks`: of the model. Those whose step needs a closure come last, since they compute
    gradients anew.

    Raises:
        WrongClassError: for a class that is not there, no optimizer, or has no such argument.
    """
    shared: list[Group] = []
    made: Optimizers = []
    for name, group in (options.groups or {OTHER: {}}).items():
        part = [stack for stack in stacks if _group_of(stack, options) == name]
        settings = group.get("settings", {})
        if not part:
            continue
        if "base" in group:
            made += built_in[group["base"]](part, OPTIMIZER_OPTIONS[group["base"]](**settings))
        elif "class" in group:
            kind = {key: group[key] for key in ("leaves", "wants") if key in group}
            apart = OwnOptimizer(group["class"], settings, options.code_sha256, **kind)
            made.append(_make(model, apart, [(part, {})]))
        else:
            shared.append((part, settings))
    if shared:
        made.insert(0, _make(model, options, shared))
    for optimizer in made:
        switch(optimizer, "train")
    return sorted(made, key=needs_closure)


def empty_groups(stacks: Sequence[Stack], asked: Asked) -> list[str]:
    """The groups of a matrix that none of a model's parameters is for; `other` may well be one."""
    groups = getattr(asked.options, "groups", {})
    roles = {stack.role for stack in stacks}
    return [name for name in groups if name != OTHER and name not in roles]


def _group_of(stack: Stack, options: OwnOptimizer) -> str:
    return stack.role if stack.role in options.groups else OTHER


def _make(model: nn.Module, options: OwnOptimizer, groups: Sequence[Group]) -> Optimizer:
    """One optimizer of the options' class, of these groups."""
    kind = load(options.reference, options.code_sha256)
    if not (isinstance(kind, type) and issubclass(kind, Optimizer)):
        raise WrongClassError(
            f"{options.reference} is no subclass of torch.optim.Optimizer: derive it from that"
        )
    first, *valid = named(kind) or ["params"]
    if "base_optimizer" in valid and "base_optimizer" not in options.settings:
        raise _wraps_another(options.reference)
    unnamed = check_arguments(options.reference, kind, options.settings, given=[first])
    for _, settings in groups:
        _check_group(options.reference, settings, valid)
    on_leaves = None
    if options.leaves == "matrices":
        on_leaves = Leaves([stack for part, _ in groups for stack in part])
    given: Any = model
    if "model" not in options.wants:
        given = _given(model, options, groups, on_leaves)
    optimizer = _made(options, kind, first, given)
    for name in unnamed:  # of a **kwargs that may drop it
        kept = name in optimizer.defaults or hasattr(optimizer, name)
        if not kept or _is_misspelt(name, valid):
            raise unknown_argument(options.reference, name, valid)
    if "closure" in options.wants:
        setattr(optimizer, WANTS_CLOSURE, True)
    return optimizer if on_leaves is None else OnLeaves(on_leaves, optimizer)


def _given(
    model: nn.Module, options: OwnOptimizer, groups: Sequence[Group], leaves: Leaves | None
) -> Any:
    """A parameter group for each group, or plain parameters where there is one without settings."""
    of_parameter = {id(each): name for name, each in model.named_parameters()}
    wanted: list[dict[str, Any]] = []
    for part, settings in groups:
        pairs = [pair for stack in part for pair in _pairs(stack, leaves, of_parameter)]
        params = pairs if "named_parameters" in options.wants else [each for _, each in pairs]
        wanted.append({"params": params, **arguments(settings)})
    return wanted[0]["params"] if len(wanted) == 1 and len(wanted[0]) == 1 else wanted


def _pairs(
    stack: Stack, leaves: Leaves | None, of_parameter: Mapping[int, str]
) -> list[tuple[str, torch.Tensor]]:
    """The tensors of a stack by name: its parameter as the model calls it, or its matrices."""
    if leaves is None:
        return [(of_parameter[id(stack.parameter)], stack.parameter)]
    return list(zip(stack.names, leaves.of(stack), strict=True))


def _made(options: OwnOptimizer, kind: type[Optimizer], first: str, given: Any) -> Optimizer:
    """The optimizer, of what its class is made of."""
    if first == "model" and "model" not in options.wants:
        raise WrongClassError(
            f"{options.reference} is made of the model itself: give it `wants: model`"
        )
    try:
        return kind(given, **arguments(options.settings))
    except Exception as error:
        if first != "optimizer":
            raise
        raise _wraps_another(options.reference) from error


def _wraps_another(reference: str) -> WrongClassError:
    return WrongClassError(
        f"{reference} is made of another optimizer, which a matrix cannot give. Write a class of "
        "your own whose constructor makes both"
    )


def _check_group(reference: str, settings: Mapping[str, Any], valid: Sequence[str]) -> None:
    """A group may have keys that are no arguments (`use_muon`); one misspelt is a mistake."""
    for name in settings:
        if name not in valid and _is_misspelt(name, valid):
            raise unknown_argument(reference, name, valid)


def _is_misspelt(name: str, valid: Sequence[str]) -> bool:
    return bool(difflib.get_close_matches(name, valid, n=1, cutoff=0.7))


def switch(optimizer: Optimizer, mode: str) -> None:
    """To "train" or "eval", for optimizers whose weights differ between the two."""
    if change := method(optimizer, mode):
        change()


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether a step must be given one, that computes the loss and its gradients anew."""
    inner = as_brought(optimizer)
    kind: Any = type(inner)
    return hasattr(inner, WANTS_CLOSURE) or bool(_needs_closure(kind))


@cache
def _needs_closure(kind: Any) -> bool:
    """Whatever its step requires is a closure: nothing else can be given to one."""
    return any(
        each.default is each.empty and each.kind not in LEFT_OVER
        for name, each in (parameters(kind.step) or {}).items()
        if name != "self"
    )
