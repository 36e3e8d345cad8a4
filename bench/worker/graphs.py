"""Training steps as CUDA graphs: one launch in place of a few hundred.

A nano step is microseconds of arithmetic and milliseconds of launching its kernels. A graph repeats
the same kernels on the same memory, so that a step in it finds its batch and its learning rates,
and leaves its loss, by a counter on the device.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from bench.border.options import FIRST_STEPS, TrainOptions
from bench.worker.repeats import Held, Places, Reads
from bench.worker.schedule import RatesOnDevice, changes_rates


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
    with torch.cuda.graph(graph, pool=_pool()):
        work()
    return graph


@contextmanager
def capturing(
    what: str,
    model: nn.Module,
    optimizers: Iterable[torch.optim.Optimizer],
    device: torch.device,
) -> Iterator[None]:
    """Say of what is captured in the block why a graph cannot hold it, and what to do.

    Raises:
        RuntimeError: for what waits for the device.
        WrongClassError: for what a graph would not repeat.
    """
    before = Held(model, optimizers, device)
    try:
        yield
    except RuntimeError as error:
        raise RuntimeError(
            f"{what} cannot be captured as a CUDA graph: something in it waits for the device or "
            f"is not allowed there. Leave out train.graph_steps. {error}"
        ) from error
    before.check(Held(model, optimizers, device))


@cache
def _pool() -> Any:
    return torch.cuda.graph_pool_handle()


class StepsOnDevice:
    """Steps of a training whose batches, rates, place and losses all lie on the device.

    step: one update on a batch of positions (B,), which returns the loss and never waits for the
    device; positions: (steps, B); losses: (steps,).
    """

    def __init__(
        self,
        step: Callable[[Tensor], Tensor],
        model: nn.Module,
        optimizers: Sequence[torch.optim.Optimizer],
        positions: Tensor,
        losses: Tensor,
        train: TrainOptions,
    ) -> None:
        self.step = step
        self.model = model
        self.optimizers = optimizers
        self.positions = positions
        self.losses = losses
        self.together = train.graph_steps  # steps of the longer graph
        self.device = positions.device
        self.rates: RatesOnDevice | None = None  # where a schedule changes them
        if changes_rates(train):
            self.rates = RatesOnDevice(optimizers, train, self.device)
        self.place = torch.zeros(1, dtype=torch.int64, device=self.device)  # the next step
        self.graphs: Sequence[tuple[int, Graph]] = ()  # (steps, graph), the longest first
        self.places: Places | None = None  # of the model, since they were captured
        self.in_graphs = 0  # steps so far that were

    def watched(self) -> None:
        """Do a step that is none of the first, and look whether a graph would repeat it.

        Raises:
            WrongClassError: where it would not.
        """
        before = Held(self.model, self.optimizers, self.device)
        with Reads(self.device) as reads:
            self._do(1)
        before.check(Held(self.model, self.optimizers, self.device), reads.addresses)

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
        lengths = sorted({self.together, 1}, reverse=True)
        with capturing("a training step", self.model, self.optimizers, self.device):
            self.graphs = [(n, captured(partial(self._do, n))) for n in lengths]
        self.places = Places(self.model)

    def check(self) -> None:
        """Call before graphs of the model are launched.

        Raises:
            WrongClassError: for a tensor of the model that lies elsewhere now.
        """
        if self.places:
            self.places.check()

    def whole(self, steps: int) -> int:
        """About so many steps, that are launched in as few graphs as possible."""
        return max(self.together, steps - steps % self.together) if self.graphs else steps

    def run(self, steps: int) -> Iterator[int]:
        """Do so many steps; after each launch, how many steps it was."""
        self.check()
        for n, graph in self.graphs:
            while steps >= n:
                graph.replay()
                steps -= n
                self.in_graphs += n
                yield n
        for _ in range(steps):
            self._do(1)
            yield 1

    def _do(self, steps: int) -> None:
        for _ in range(steps):
            if self.rates:
                self.rates.set(self.place)
            loss = self.step(self.positions.index_select(0, self.place).squeeze(0))
            self.losses.index_copy_(0, self.place, loss.view(1))
            self.place += 1
