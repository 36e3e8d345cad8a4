"""What a CUDA graph of a training step would not repeat: all that lives on outside its kernels.

A graph does the same kernels on the same memory. A number of Python's that counts steps stands
still in it, a tensor that each step makes anew is made of the first one's values for ever, and what
is drawn on the host is drawn once.
"""

import random
import re
import traceback
from array import array
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.border.identity import PACKAGE
from bench.optim.leaves import as_brought
from bench.worker.classes import WrongClassError
from bench.worker.holdings import held
from bench.worker.own_model import BroughtModel

SHOWN = 3  # of what is told at once
PLACES = re.compile(r"\._(?:parameters|buffers|modules)\['([^']*)'\]")
LEAVE_OUT = "or leave out train.graph_steps"
IN_PLACE = "Keep it in a tensor on the device that each step writes in place"
CAPTURABLE = " (this class does with `capturable: true`)"
DRAW = "Draw from the device's own stream, as torch.rand(..., device=parameter.device) does"

TORCH = str(Path(torch.__file__).parent)
aten = torch.ops.aten
# On a GPU the host waits for what these find, or copies from one to the other.
WAITING = {
    aten._linalg_check_errors.default,
    aten._local_scalar_dense.default,
    aten._unique2.default,
    aten.bincount.default,
    aten.equal.default,
    aten.is_nonzero.default,
    aten.masked_select.default,
    aten.nonzero.default,
    aten.repeat_interleave.Tensor,
}


class Held:
    """What a model and its optimizers hold between two steps, to be held against a later moment.

    device: that of the training. Tensors elsewhere are no part of a graph, as numbers are not.
    """

    def __init__(
        self, model: nn.Module, optimizers: Iterable[torch.optim.Optimizer], device: torch.device
    ) -> None:
        module = model.module if isinstance(model, BroughtModel) else model
        self.device = device
        self.roots: dict[str, object] = {type(module).__name__: module}
        for number, each in enumerate(map(as_brought, optimizers), 1):
            name = type(each).__name__
            self.roots[f"{name} {number}" if name in self.roots else name] = each
        streams = {"random": str(random.getstate()), "numpy.random": str(np.random.get_state())}
        if device.type != "cpu":
            streams["torch's CPU stream"] = str(torch.get_rng_state().tolist())
        gradients = {f"{name}.grad": each.grad for name, each in module.named_parameters()}
        held_now = held([self.roots, gradients])
        self.values = {way: self._kept(value) for way, value in held_now}
        self.streams = streams
        self.lasting = {_storage(each) for each in module.parameters()}

    def read_by(self, addresses: Collection[int]) -> set[str]:
        """Ways to the tensors whose storages are at these addresses."""
        kept = ((way, each) for way, each in self.values.items() if isinstance(each, Tensor))
        return {way for way, each in kept if _storage(each) in addresses}

    def check(self, later: "Held", read: Collection[str] = ()) -> None:
        """read: the ways to tensors that a step reads before it makes them, where that is known.

        Raises:
            WrongClassError: for what a graph of the steps between would not repeat.
        """
        if changed := list(self._changes(later, read)):
            more = f" and {len(changed) - SHOWN} more" if len(changed) > SHOWN else ""
            told = "; ".join(" ".join(each) for each in changed[:SHOWN])
            raise WrongClassError(
                "train.graph_steps: a CUDA graph repeats the kernels of a step and none of its "
                f"Python, and from step to step {told}{more}. {self._remedy(changed[0][0])}, "
                f"{LEAVE_OUT}"
            )

    def _kept(self, value: Any) -> Any:
        on_device = isinstance(value, Tensor) and value.device == self.device
        return value.detach() if on_device else _host(value)  # without the graph that led to it

    def _changes(self, later: "Held", read: Collection[str]) -> Iterator[tuple[str, str]]:
        for way in [*self.values, *(way for way in later.values if way not in self.values)]:
            was, now = self.values.get(way, _NOTHING), later.values.get(way, _NOTHING)
            if not _same(was, now) and not self._is_stash(way, was, now, read):
                yield PLACES.sub(r".\1", way), _told(was, now)
        for name, state in self.streams.items():
            if state != later.streams[name]:
                yield name, "draws other numbers on the host"

    def _is_stash(self, way: str, was: Any, now: Any, read: Collection[str]) -> bool:
        """What is only left for others to look at, as the last activations, or is a first flag."""
        if was is None or (was is _NOTHING and not way.endswith("]")):
            return now is None or isinstance(now, Tensor | bool)
        if not isinstance(was, Tensor) or not (now is None or isinstance(now, Tensor)):
            return False
        return _storage(was) not in self.lasting and way not in read

    def _remedy(self, way: str) -> str:
        if way in self.streams or isinstance(self.values.get(way), _Stream):
            return DRAW
        root = self.roots.get(re.split(r"[.\[]", way, maxsplit=1)[0])
        defaults = getattr(root, "defaults", {})
        return IN_PLACE + (CAPTURABLE if "capturable" in defaults else "")


class _Nothing:
    """No such thing was there."""


_NOTHING = _Nothing()


@dataclass(frozen=True)
class _Stream:
    """Where random numbers that are drawn on the host stand."""

    state: str


def _host(value: Any) -> Any:
    """What is in an array, a stream of random numbers, or a tensor that no kernel of ours sees."""
    if isinstance(value, random.Random):
        return _Stream(str(value.getstate()))
    if isinstance(value, np.random.Generator):
        return _Stream(str(value.bit_generator.state))
    if isinstance(value, np.random.RandomState):
        return _Stream(str(value.get_state()))
    if isinstance(value, torch.Generator):
        on_host = value.device.type == "cpu"
        return _Stream(str(value.get_state().tolist())) if on_host else None
    return value.tolist() if isinstance(value, Tensor | np.ndarray | array) else value


def _same(was: Any, now: Any) -> bool:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return _place(was) == _place(now)
    if isinstance(was, Tensor) or isinstance(now, Tensor):
        return False
    return bool(was == now) or (was != was and now != now)  # both not a number


def _place(tensor: Tensor) -> tuple[object, ...]:
    return (tensor.data_ptr(), tensor.shape, tensor.stride())


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _told(was: Any, now: Any) -> str:
    if isinstance(was, Tensor) and isinstance(now, Tensor):
        return "becomes another tensor"
    if now is _NOTHING or now is None:
        return "goes away"
    if isinstance(now, Tensor):
        return "is made anew"
    if was is _NOTHING or was is None:
        return f"becomes {now}"
    simple = all(isinstance(each, str | int | float | complex | bool) for each in (was, now))
    return f"is {was}, then {now}" if simple else "has other numbers in it"


class Reads(TorchDispatchMode):
    """Which memory is read while a block runs. Nothing may wait for the device.

    Raises:
        WrongClassError: where something does, or where a gradient is sparse.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.device = device
        self.addresses: set[int] = set()  # of storages

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        if call in WAITING and any(each.device == self.device for each in given):
            raise WrongClassError(
                f"train.graph_steps: the step waits for the device{_where()}, as .item(), float(), "
                "`if`, a choice by true and false and `alpha=` of a tensor do, which a CUDA graph "
                f"cannot. Compute with the tensor alone, {LEAVE_OUT}"
            )
        for tensor in given:
            if tensor.layout is not torch.strided:
                raise WrongClassError(
                    "train.graph_steps: a CUDA graph holds no sparse gradient. Build the layer "
                    f"with sparse=False, {LEAVE_OUT}"
                )
            self.addresses.add(_storage(tensor))
        return call(*args, **(kwargs or {}))


def _where() -> str:
    """The line that waits, if it is of neither PyTorch nor ours."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename.startswith(TORCH) or frame.filename == __file__:
            continue
        if frame.filename.startswith(str(PACKAGE)):
            break
        return f" ({Path(frame.filename).name}, line {frame.lineno}: {frame.line})"
    return ""
