"""How much memory optimizers hold beside the model: whatever they keep it in."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bench.border.logical import Stack

Place = tuple[torch.device, int]

# What is not looked into: code, and what tells of the model and holds nothing of its own.
CLOSED = (type, ModuleType, FunctionType, MethodType, BuiltinFunctionType, Stack)
LEAVES = (str, bytes, int, float, complex, bool, type(None))


def held_bytes(optimizers: Iterable[object], model: nn.Module) -> int:
    """Bytes of all tensors that can be reached from the optimizers, each storage once.

    Through attributes, dicts, lists, tuples, sets and objects. The model's parameters, their
    gradients and its buffers are its own, and so is what shares memory with them.
    """
    found = dict(_storages(optimizers))
    for place, _ in _storages(_of_model(model)):
        found.pop(place, None)
    return sum(found.values())


def _of_model(model: nn.Module) -> Iterator[Tensor]:
    yield from model.buffers()
    for parameter in model.parameters():
        yield parameter
        if parameter.grad is not None:
            yield parameter.grad


def _storages(roots: Iterable[object]) -> Iterator[tuple[Place, int]]:
    """Where the tensors that can be reached from these lie, and the bytes there."""
    seen: set[int] = set()
    waiting = deque(roots)
    alive = []  # an id is of its object only for as long as that lives
    while waiting:
        value = waiting.pop()
        if isinstance(value, (*LEAVES, *CLOSED)) or id(value) in seen:
            continue
        seen.add(id(value))
        alive.append(value)
        if isinstance(value, Tensor) and not _parts(value):
            storage = value.untyped_storage()
            yield (value.device, storage.data_ptr()), storage.nbytes()
        else:
            waiting.extend(_inside(value))


def _inside(value: Any) -> Iterator[Any]:
    """What a container or an object holds; of a tensor made of others, those."""
    if isinstance(value, Tensor):
        yield from _parts(value)
        return
    if isinstance(value, Mapping):
        yield from value.values()
    elif isinstance(value, list | tuple | set | frozenset | deque):
        yield from value
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            yield getattr(value, name, None)


def _parts(tensor: Tensor) -> list[Tensor]:
    """The tensors that one without a storage of its own is made of."""
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if hasattr(tensor, "__tensor_flatten__"):
        names, _ = tensor.__tensor_flatten__()
        return [getattr(tensor, name) for name in names]
    return []
