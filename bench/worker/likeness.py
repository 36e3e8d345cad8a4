"""Whether optimizers hold the same settings, whatever was written in the matrix."""

import functools
import inspect
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.optim.leaves import as_brought
from bench.worker.data import hash_tensor

# What groups were made of: a group that sets a key itself holds its own value. And what trains.
BESIDES = ("param_groups", "state", "defaults")


def settings_held(optimizers: Iterable[torch.optim.Optimizer]) -> str:
    """A text of all that they hold but parameters and state: equal settings have equal ones."""
    told = []
    for optimizer in optimizers:
        inner = as_brought(optimizer)
        groups = [{**group, "params": len(group["params"])} for group in inner.param_groups]
        attributes = {key: value for key, value in vars(inner).items() if key not in BESIDES}
        told.append([type(inner).__qualname__, groups, attributes])
    return _text(told, set())


def _text(value: Any, within: set[int]) -> str:
    """`within`: ids of what this value is part of, which may hold each other."""
    if isinstance(value, str | bytes | int | float | complex | np.generic | None):
        return repr(value)
    if isinstance(value, np.ndarray):
        return repr(value.tolist())
    if isinstance(value, Tensor):
        return hash_tensor(value)
    if id(value) in within:
        return "itself"
    parts = (f"{key}={_text(each, within | {id(value)})}" for key, each in _parts(value).items())
    return f"{type(value).__qualname__}({', '.join(parts)})"


def _parts(value: Any) -> Mapping[Any, Any]:
    """What a container, a function or an object holds, by a name or a place."""
    if isinstance(value, Mapping):
        return {
            key if isinstance(key, str) else n: each for n, (key, each) in enumerate(value.items())
        }
    if isinstance(value, list | tuple | set | frozenset | deque):
        return dict(enumerate(value))
    if isinstance(value, functools.partial):
        return {"func": value.func, "args": value.args, "keywords": value.keywords}
    if inspect.isfunction(value):
        return {
            "of": value.__qualname__,
            "defaults": value.__defaults__,
            **inspect.getclosurevars(value).nonlocals,
        }
    if inspect.isroutine(value) or inspect.isclass(value) or inspect.ismodule(value):
        return {"of": getattr(value, "__qualname__", value.__name__)}
    slots: list[str] = []
    for kind in type(value).__mro__:
        named = kind.__dict__.get("__slots__", ())
        slots += [named] if isinstance(named, str) else named
    return {name: getattr(value, name, None) for name in slots} | getattr(value, "__dict__", {})
