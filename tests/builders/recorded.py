"""CUDA graphs without a GPU: what PyTorch was told to do, recorded and done again.

A graph holds kernels and addresses, and nothing of the Python that led to them. Here the calls of
PyTorch's operators (ATen) stand for the kernels, below autograd, so that a backward pass is in it,
and the tensors of the recording for the addresses: a replay does the same calls on the same memory.
As on a GPU, recording leaves all memory as it was, and what would wait for the device is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from bench.worker import graphs
from bench.worker.repeats import WAITING

aten = torch.ops.aten


class RecordedGraph:
    """Calls that were recorded, in order."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.replays = 0
        recorder = _Recorder()
        with torch.random.fork_rng(devices=[]), recorder:
            work()
        recorder.put_back()
        self.calls = recorder.calls

    @torch.no_grad()
    def replay(self) -> None:
        self.replays += 1
        # What a block narrows is no matter of a graph's: that was done, or not, as it was recorded.
        as_recorded = torch.autocast("cpu", enabled=False)
        with torch._C._AutoDispatchBelowAutograd(), as_recorded:
            for call, args, kwargs, found in self.calls:
                again = call(*args, **kwargs)
                for place, value in zip(_tensors(found), _tensors(again), strict=True):
                    if not _share(place, value):  # else it was written in place, or is a view
                        place.copy_(value)


class _Recorder(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []
        self.made: dict[int, Tensor] = {}  # storages that were made on the way
        self.before: dict[int, tuple[Tensor, torch.UntypedStorage]] = {}  # of others, what was in

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if call in WAITING:
            raise RuntimeError("operation not permitted when stream is capturing")
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        for tensor in given:
            self._keep(tensor)
        found = call(*args, **kwargs)
        for tensor in _tensors(found):
            if not any(_share(tensor, each) for each in given):
                self.made[_place(tensor)] = tensor
        if torch.Tag.inplace_view not in call.tags:  # which has no kernel
            self.calls.append((call, *_now((args, kwargs, found))))
        return found

    def _keep(self, tensor: Tensor) -> None:
        place = _place(tensor)
        if place not in self.made and place not in self.before:
            self.before[place] = (tensor, tensor.untyped_storage().clone())

    def put_back(self) -> None:
        for tensor, storage in self.before.values():
            tensor.untyped_storage().copy_(storage)


def _now(tree: Any) -> Any:
    """The same memory in the shape that it has now: some calls change that of their argument."""
    return tree_map_only(Tensor, aten.alias.default, tree)


def _tensors(tree: Any) -> list[Tensor]:
    return [each for each in tree_leaves(tree) if isinstance(each, Tensor)]


def _place(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _share(one: Tensor, other: Tensor) -> bool:
    return _place(one) == _place(other)


@contextmanager
def recorded_graphs() -> Iterator[list[RecordedGraph]]:
    """All graphs that are captured in the block, on a CPU."""
    found: list[RecordedGraph] = []

    def captured(work: Callable[[], object]) -> RecordedGraph:
        found.append(RecordedGraph(work))
        return found[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "captured", captured)
        yield found
