"""Training steps as CUDA graphs: one launch in place of a few hundred.

A nano step is microseconds of arithmetic and milliseconds of launching its kernels. A graph repeats
the same kernels on the same memory, so that a step in it finds its batch and its learning rates,
and leaves its loss, by a counter on the device.
"""

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Protocol

import torch
from torch import Tensor, nn

from bench.border.options import FIRST_STEPS, TrainOptions
from bench.worker.classes import WrongClassError
from bench.worker.positions import BatchPositions
from bench.worker.repeats import Held, Reads
from bench.worker.schedule import RatesOnDevice, changes_rates

# What a graph's losses may differ by from those of the same kernels one by one, relatively.
AGREEMENT = 1e-4


class Graph(Protocol):
    def replay(self) -> None:
        """Do what was captured once more, on the same memory."""


def captured(work: Callable[[], object]) -> Graph:
    """What this work has the device do, none of which is done yet.

    Libraries must have been used before: to load one is not allowed here. All graphs of a process
    share the memory for what comes and goes within them, since no two of them run at once.

    Raises:
        RuntimeError: for work that a graph cannot hold.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_holder().pool(), stream=stream()):
        work()
    return graph


@cache
def stream() -> torch.cuda.Stream:
    """The stream of all that a graph is to repeat, also before it is captured.

    What autograd keeps from a step done elsewhere would wait for the other stream, which a
    capture does not allow.
    """
    return torch.cuda.Stream()


@contextmanager
def capturing(what: str) -> Iterator[None]:
    """Say of what is captured in the block why a graph cannot hold it, and what to do.

    Raises:
        RuntimeError: for what waits for the device.
    """
    try:
        yield
    except RuntimeError as error:
        first: BaseException = error  # what ended it; torch then tells of a capture that was ended
        while first.__context__ is not None:
            first = first.__context__
        raise RuntimeError(
            f"{what} cannot be captured as a CUDA graph: something in it waits for the device or "
            f"is not allowed there. Leave out train.graph_steps. {first}"
        ) from error


def agree(one: float, other: float) -> bool:
    """Whether a graph and the same kernels one by one have the same figure.

    On a GPU some of PyTorch's kernels add up in an order that differs each time.
    """
    return math.isclose(one, other, rel_tol=AGREEMENT) or (one != one and other != other)


@cache
def _holder() -> torch.cuda.CUDAGraph:
    """A graph of next to nothing, which stays, and with it the memory that all graphs share.

    What a library takes during a capture, such as cuBLAS a workspace for a stream, it keeps there.
    With that in it and no graph left that uses it, torch captures into such memory no more.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream()):
        torch.zeros(1, device="cuda")
    return graph


def disagreement(what: str, by_graph: float, alone: float) -> WrongClassError:
    """What to say where the two do not agree, for which nothing that we know of is to blame."""
    return WrongClassError(
        f"train.graph_steps: {what} comes to {by_graph:.6g} in a CUDA graph, and to {alone:.6g} "
        "kernel by kernel. The model or the optimizer keeps something between steps that no graph "
        "sees: a number in a closure, a class or an iterator, a tensor that train() or eval() "
        "replaces. Keep it in a tensor on the device that is written in place, or leave out "
        "train.graph_steps"
    )


class StepsOnDevice:
    """Steps of a training whose batches, rates, place and losses all lie on the device.

    step: one update on a batch of positions (B,), which returns the loss and never waits for the
    device; positions: (steps, B); losses: (steps,). The device has some rows of the positions at a
    time: graphs read them in one place, where others are put before a launch that needs them.
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        positions: BatchPositions,
        losses: Tensor,
        train: TrainOptions,
        together: int,
        read: Collection[str] = (),
    ) -> None:
        self.step = step
        self.model = model
        self.optimizers = optimizers
        self.positions = positions
        self.losses = losses
        self.together = together  # steps of the longer graph
        self.read = read  # ways to tensors that a step reads, as `watched` has found them
        self.device = losses.device
        self.rates: RatesOnDevice | None = None  # where a schedule changes them
        if changes_rates(train):
            self.rates = RatesOnDevice(optimizers, train, self.device)
        self.place = torch.zeros(1, dtype=torch.int64, device=self.device)  # the next step
        self.launched = 0  # the same, as the host knows it
        n_rows = min(len(positions), max(together, positions.rows_at_once))
        shape = (n_rows, positions.shape[1])
        self.rows = torch.zeros(shape, dtype=torch.int64, device=self.device)
        self.first_row = torch.zeros(1, dtype=torch.int64, device=self.device)  # its step
        self.held_to = 0  # to before which step it has rows
        self.graphs: Sequence[tuple[int, Graph]] = ()  # (steps, graph), the longest first
        self.captured_with: Held | None = None
        self.in_graphs = 0  # steps so far that were

    def begin_at(self, step: int) -> None:
        """Go on where another attempt stopped."""
        self.place.fill_(step)
        self.launched = self.held_to = step

    def watched(self) -> set[str]:
        """Do a step that is none of the first; the ways to tensors that it reads.

        Raises:
            WrongClassError: where a graph would not repeat it.
        """
        before = self._held()
        self._bring(1)
        with Reads(self.device) as reads:
            self._do(1)
        self.launched += 1
        read = before.read_by(reads.addresses)
        before.check(self._held(), read)
        if self.rates:
            self.rates.check(self.place - 1)
        return read

    def capture(self) -> None:
        """Record `together` steps as one graph, and one step for what these leave of a span.

        FIRST_STEPS must have been done before: they load libraries, which is not allowed in a
        capture, and make what an optimizer makes at its first step, which a graph would make anew
        each time.

        Raises:
            RuntimeError: for a step that a graph cannot hold.
            WrongClassError: for steps that it would not repeat.
        """
        assert self.place.item() >= FIRST_STEPS, "captured before the first steps were done"
        self.captured_with = self._held()
        self._bring(self.together)
        lengths = sorted({self.together, 1}, reverse=True)
        with capturing("a training step"):
            self.graphs = [(n, captured(partial(self._do, n))) for n in lengths]
        self.check()

    def check(self) -> None:
        """Call before steps are launched.

        Raises:
            WrongClassError: for what is no longer as it was when graphs were captured.
        """
        if self.captured_with:
            self.captured_with.check(self._held(), self.read)

    def whole(self, steps: int) -> int:
        """About so many steps, that are launched in as few graphs as possible."""
        return max(self.together, steps - steps % self.together) if self.graphs else steps

    def run(self, steps: int) -> Iterator[int]:
        """Do so many steps; after each launch, how many steps it was."""
        for n, graph in self.graphs:
            while steps >= n:
                self._bring(n)
                graph.replay()
                steps -= n
                self.in_graphs += n
                self.launched += n
                yield n
        for _ in range(steps):
            self._bring(1)
            self._do(1)
            self.launched += 1
            yield 1

    def _bring(self, steps: int) -> None:
        """Have the rows of the next steps on the device; a copy in the order of its launches."""
        if self.launched + steps <= self.held_to:
            return
        self.held_to = min(self.launched + len(self.rows), len(self.positions))
        rows = self.positions.between(self.launched, self.held_to)
        self.rows[: len(rows)].copy_(rows, non_blocking=True)
        self.first_row.fill_(self.launched)

    def _do(self, steps: int) -> None:
        for _ in range(steps):
            if self.rates:
                self.rates.set(self.place)
            row = self.rows.index_select(0, self.place - self.first_row)
            loss = self.step(row.squeeze(0))
            self.losses.index_copy_(0, self.place, loss.view(1))
            self.place += 1

    def _held(self) -> Held:
        return Held(self.model, self.optimizers, self.device)
