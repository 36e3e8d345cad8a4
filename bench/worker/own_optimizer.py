"""Optimizers that the matrix names by class: which of them gets what, and in what form."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import torch

from bench.border.logical import Stack
from bench.border.options import OPTIMIZER_OPTIONS, OwnOptimizer
from bench.border.options.own import OTHER
from bench.optim.leaves import Leaves, OnLeaves
from bench.worker.classes import (
    WrongClassError,
    arguments,
    check_arguments,
    load,
    named,
    parameters,
    unknown_argument,
)

Optimizers = list[torch.optim.Optimizer]
Build = Callable[[Sequence[Stack], Any], Optimizers]
Group = tuple[Sequence[Stack], Mapping[str, Any]]  # what it is of, and its settings


def build(
    stacks: Sequence[Stack], options: OwnOptimizer, built_in: Mapping[str, Build]
) -> Optimizers:
    """The optimizers of a variant: its own class, and those of groups that name another.

    Those whose step needs a closure come last, since they compute gradients anew.

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
            apart = OwnOptimizer(group["class"], settings, options.code_sha256)
            made.append(_make(apart, [(part, {})], group.get("leaves", "parameters")))
        else:
            shared.append((part, settings))
    if shared:
        made.insert(0, _make(options, shared, options.leaves))
    for optimizer in made:
        switch(optimizer, "train")
    return sorted(made, key=needs_closure)


def _group_of(stack: Stack, options: OwnOptimizer) -> str:
    return stack.role if stack.role in options.groups else OTHER


def _make(options: OwnOptimizer, groups: Sequence[Group], leaves: str) -> torch.optim.Optimizer:
    """One optimizer of the options' class: a parameter group each, or plain parameters if one."""
    kind = load(options.reference, options.code_sha256)
    if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
        raise WrongClassError(
            f"{options.reference} is no subclass of torch.optim.Optimizer: derive it from that"
        )
    first, *valid = named(kind) or ["params"]
    unnamed = check_arguments(options.reference, kind, options.settings, given=[first])
    on_leaves = None
    if leaves == "matrices":
        on_leaves = Leaves([stack for part, _ in groups for stack in part])
    wanted = []
    for part, settings in groups:
        _check_group(options.reference, settings, valid)
        wanted.append({"params": _tensors(part, on_leaves), **arguments(settings)})
    plain = wanted[0]["params"] if len(wanted) == 1 and len(wanted[0]) == 1 else wanted
    optimizer: torch.optim.Optimizer = kind(plain, **arguments(options.settings))
    for name in unnamed:  # of a **kwargs that may drop it
        kept = name in optimizer.defaults or hasattr(optimizer, name)
        if not kept or _is_misspelt(name, valid):
            raise unknown_argument(options.reference, name, valid)
    return optimizer if on_leaves is None else OnLeaves(on_leaves, optimizer)


def _tensors(stacks: Sequence[Stack], leaves: Leaves | None) -> list[torch.Tensor]:
    if leaves is None:
        return [stack.parameter for stack in stacks]
    return [leaf for stack in stacks for leaf in leaves.of(stack)]


def _check_group(reference: str, settings: Mapping[str, Any], valid: Sequence[str]) -> None:
    """A group may have keys that are no arguments (`use_muon`); one misspelt is a mistake."""
    for name in settings:
        if name not in valid and _is_misspelt(name, valid):
            raise unknown_argument(reference, name, valid)


def _is_misspelt(name: str, valid: Sequence[str]) -> bool:
    return bool(difflib.get_close_matches(name, valid, n=1, cutoff=0.7))


def switch(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """To "train" or "eval", for optimizers whose weights differ between the two."""
    if hasattr(optimizer, mode):
        getattr(optimizer, mode)()


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step must be given one, that computes the loss and its gradients anew."""
    inner = optimizer.inner if isinstance(optimizer, OnLeaves) else optimizer
    kind: Any = type(inner)
    return bool(_needs_closure(kind))


@cache
def _needs_closure(kind: Any) -> bool:
    closure = (parameters(kind.step) or {}).get("closure")
    return closure is not None and closure.default is closure.empty
