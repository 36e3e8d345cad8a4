"""What optimizers and models hold, whatever they keep it in; and how much memory that is."""

import random
from array import array
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.border.logical import Stack

Place = tuple[torch.device, int]

# What is not looked into: code, and what tells of the model and holds nothing of its own.
CLOSED = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, Stack)
LEAVES = (
    *(str, bytes, int, float, complex, bool, type(None), np.generic, np.ndarray),
    *(array, Decimal, random.Random, np.random.Generator, np.random.RandomState, torch.Generator),
)


def held_bytes(
    optimizers: Iterable[object], model: nn.Module, others: Iterable[Tensor] = ()
) -> int:
    """Bytes of all tensors that can be reached from the optimizers, each storage once.

    Through attributes, dicts, lists, tuples, sets and objects. The model's parameters, their
    gradients and its buffers are its own, and so is what shares memory with them or `others`.
    """
    found = _storages(optimizers)
    for place in _storages([*_of_model(model), *others]):
        found.pop(place, None)
    return sum(found.values())


def _of_model(model: nn.Module) -> Iterator[Tensor]:
    yield from model.buffers()
    for parameter in model.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad


def _storages(roots: Iterable[object]) -> dict[Place, int]:
    """Where the tensors that can be reached from these lie, and the bytes there."""
    storages = {}
    for _, value in held({"": each} for each in roots):
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            storages[value.device, storage.data_ptr()] = storage.nbytes()
    return storages


def held(roots: Iterable[Mapping[str, object]]) -> Iterator[tuple[str, Any]]:
    """All tensors, arrays, numbers and texts that can be reached from named objects.

    Each once, with the way to it: `Lion.state[head.weight]['exp_avg']`. A tensor that is a key is
    called as its name is in a model among the roots.
    """
    seen: set[int] = set()
    waiting = deque(pair for each in roots for pair in each.items())
    names: dict[int, str] = {}
    alive = []  # an id is of its object only for as long as that lives
    while waiting:
        way, value = waiting.popleft()
        if isinstance(value, LEAVES):
            yield way, value
            continue
        if isinstance(value, CLOSED) or id(value) in seen:
            continue
        seen.add(id(value))
        alive.append(value)
        if isinstance(value, nn.Module):
            names = {id(each): name for name, each in value.named_parameters()} | names
        if isinstance(value, Tensor) and not _parts(value):
            yield way, value
        waiting.extend((way + step, each) for step, each in _inside(value, names))


def _inside(value: Any, names: Mapping[int, str]) -> Iterator[tuple[str, Any]]:
    """What an object holds, and how one gets there."""
    if isinstance(value, Tensor):
        yield from ((".part", part) for part in _parts(value))
    elif isinstance(value, Mapping):
        for number, (key, each) in enumerate(value.items()):
            is_tensor = isinstance(key, Tensor)
            yield f"[{names.get(id(key), number) if is_tensor else repr(key)}]", each
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from ((f"[{number}]", each) for number, each in enumerate(value))
    yield from ((f".{name}", each) for name, each in getattr(value, "__dict__", {}).items())
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            hidden = name.startswith("__") and not name.endswith("__")
            called = f"_{kind.__name__.lstrip('_')}{name}" if hidden else name
            yield f".{name}", getattr(value, called, None)


def _parts(tensor: Tensor) -> list[Tensor]:
    """The tensors that one without a storage of its own is made of."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [getattr(tensor, name) for name in names]
    return []
