"""What a CUDA graph of a training step would not repeat: all that lives on outside its kernels.

A graph does the same kernels on the same memory. A number of Python's that counts steps stands
still in it, a tensor that each step makes anew is made of the first one's values for ever, and what
is drawn on the host is drawn once.
"""

import random
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.optim.leaves import as_brought
from bench.worker.classes import WrongClassError
from bench.worker.holdings import held
from bench.worker.own_model import BroughtModel

SHOWN = 3  # of what is told at once
PLACES = re.compile(r"\._(?:parameters|buffers|modules)\['([^']*)'\]")
OR = "(of PyTorch's own optimizers by `capturable: true`), or leave out train.graph_steps"
REMEDY = f"Keep it in a tensor on the device that each step writes in place {OR}"
WAITS = (
    "train.graph_steps: the step reads a number from the device, as .item(), float() and `alpha=` "
    "of a tensor do, and so waits for it, which a CUDA graph cannot. Compute with the tensor, as "
    f"with a learning rate that a schedule changes {OR}"
)


class Held:
    """What a model and its optimizers hold between two steps, to be held against a later moment.

    device: that of the training. Tensors elsewhere are no part of a graph, as numbers are not.
    """

    def __init__(
        self, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], device: torch.device
    ) -> None:
        model = _as_known(model)
        roots: dict[str, object] = {type(model).__name__: model}
        self.of_model = type(model).__name__
        for number, each in enumerate(optimizers, 1):
            inner = as_brought(each)
            name = type(inner).__name__
            roots[f"{name} {number}" if name in roots else name] = inner
        self.device = device
        self.values = {way: self._kept(value) for way, value in held([roots])}
        stays = [*model.parameters(), *model.buffers()]
        self.lasting = {id(each) for each in stays}
        self.streams = _host_streams(device)

    def check(self, later: "Held", read: Collection[int] = ()) -> None:
        """read: the storages, by address, that the steps between have read, where that is known.

        Raises:
            WrongClassError: for what a graph of these steps would not repeat.
        """
        if changed := [*self._changes(later, read), *self._drawn(later)]:
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            raise WrongClassError(
                "train.graph_steps: a CUDA graph repeats the kernels of a step and none of its "
                f"Python, and from step to step {'; '.join(changed[:SHOWN])}{more}. {REMEDY}"
            )

    def _kept(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return _Host(value.tolist())
        if isinstance(value, Tensor) and value.device != self.device:
            return _Host(value.tolist())
        return value

    def _changes(self, later: "Held", read: Collection[int]) -> Iterator[str]:
        for way in [*self.values, *(way for way in later.values if way not in self.values)]:
            was, now = self.values.get(way, _NOTHING), later.values.get(way, _NOTHING)
            if _same(was, now) or (self._is_models(way) and self._is_stash(was, now, read)):
                continue
            called = PLACES.sub(r".\1", way)
            yield f"{called} {_told(was, now)}"

    def _is_models(self, way: str) -> bool:
        return re.split(r"[.\[]", way, maxsplit=1)[0] == self.of_model

    def _is_stash(self, was: Any, now: Any, read: Collection[int]) -> bool:
        """What a model only leaves for others to look at, as its last activations."""
        if not isinstance(was, Tensor):
            return was is None or was is _NOTHING
        return id(was) not in self.lasting and was.untyped_storage().data_ptr() not in read

    def _drawn(self, later: "Held") -> Iterator[str]:
        for name, state in self.streams.items():
            if state != later.streams[name]:
                yield f"{name} draws other numbers on the host"


def _as_known(model: nn.Module) -> nn.Module:
    """The module that its author knows."""
    return model.module if isinstance(model, BroughtModel) else model


class _Nothing:
    """No such thing was there."""


_NOTHING = _Nothing()


@dataclass(frozen=True)
class _Host:
    """What is in an array, or in a tensor that lies elsewhere than training does."""

    values: Any

    def __str__(self) -> str:
        return "others" if isinstance(self.values, list) else str(self.values)


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return _place(was) == _place(now)
    if isinstance(was, Tensor) or isinstance(now, Tensor):
        return False
    return bool(was == now) or (was != was and now != now)  # both not a number


def _place(tensor: Tensor) -> tuple[object, ...]:
    layout = tensor.layout
    if layout is not torch.strided:
        return (layout, id(tensor))
    return (tensor.data_ptr(), tensor.shape, tensor.stride())


def _told(was: Any, now: Any) -> str:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return "becomes another tensor"
    if was is _NOTHING or was is None:
        return "is made anew"
    if now is _NOTHING or now is None:
        return "goes away"
    return f"is {was}, then {now}" if str(was) != str(now) else "has other numbers in it"


def _host_streams(device: torch.device) -> dict[str, object]:
    """Where the streams of random numbers stand that are drawn on the host."""
    kind, keys, *rest = np.random.get_state()
    streams: dict[str, object] = {
        "random": random.getstate(),
        "numpy.random": (kind, np.asarray(keys).tobytes(), *rest),
    }
    if device.type != "cpu":
        streams["torch's CPU generator"] = torch.get_rng_state().numpy().tobytes()
    return streams


class Reads(TorchDispatchMode):
    """Which memory is read while a block runs. Nothing may wait for the device.

    Raises:
        WrongClassError: where something does.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.addresses: set[int] = set()  # of storages

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if call is torch.ops.aten._local_scalar_dense.default and given[0].device == self.device:
            raise WrongClassError(WAITS)
        for tensor in given:
            if tensor.layout is torch.strided:
                self.addresses.add(tensor.untyped_storage().data_ptr())
        return call(*args, **(kwargs or {}))


class Places:
    """Where a model's tensors lie, which a graph of it holds on to."""

    def __init__(self, model: nn.Module) -> None:
        self.model = _as_known(model)
        self.of = _places_of(self.model)

    def check(self) -> None:
        """Call before a graph is launched.

        Raises:
            WrongClassError: where one lies elsewhere now.
        """
        if (now := _places_of(self.model)) != self.of:
            names = [name for name, place in self.of.items() if now.get(name) != place]
            raise WrongClassError(
                f"train.graph_steps: {', '.join(names[:SHOWN])} lies elsewhere since its CUDA "
                "graph was captured, which goes on with the old tensor. Write it in place "
                "(parameter.copy_(...), not parameter.data = ...), or leave out train.graph_steps"
            )


def _places_of(model: nn.Module) -> dict[str, int]:
    return {
        name: tensor.data_ptr()
        for named in (model.named_parameters(), model.named_buffers())
        for name, tensor in named
    }
