"""Training steps on a GPU beside the original's way: `python -m tests.gpu.speed OUT.csv`.

Of each arm: microseconds a step the original's way, ours kernel by kernel, ours in graphs, and of
two arms ours compiled and in graphs, in turn; kernels a step and how long they keep the GPU busy,
by torch's profiler; what capturing and compiling cost.
The floor of a graph is its chain of kernels, each at least as long as an empty one: their number
times the time of a node that adds 1 to a single number.
"""

import csv
import statistics
import sys
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from functools import partial
from itertools import islice

import torch
from torch import Tensor

from bench.border.options import FIRST_STEPS
from bench.worker import graphs
from bench.worker.graphs import StepsOnDevice
from tests.builders.twins import ARMS
from tests.gpu.kernels import replay, watched
from tests.gpu.timing import as_in_cells, microseconds
from tests.perf.arms import Ours, Theirs
from tests.perf.rows import interleaved, ratios

AIMS = {("nanogpt", "adamw"): 30.0, ("nanokimi", "truemuon"): 60.0}  # times the original's way
AIMS_US = {("nanogpt", "adamw"): 450.0, ("nanokimi", "truemuon"): 900.0}  # a step, at most
NODES = 1_000


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    What launches kernels one by one takes up to 0.1 s a step on a slow host, a graph a millisecond;
    so one minute holds twenty steps of the one and a hundred of the other, five times.
    """

    rounds: int = 5
    launched: int = 20  # steps of a measurement whose kernels are launched one by one
    replayed: int = 100  # steps of one in graphs; divided by every length of a graph
    together: tuple[int, ...] = (1, 10, 100)  # lengths of graphs
    compiled: Collection[tuple[str, str]] = tuple(AIMS)  # arms: compiling takes 10 to 20 s each


@dataclass(frozen=True)
class Figure:
    """A line of the table: the median of repeated measurements and its quartiles."""

    model: str
    optimizer: str
    what: str
    unit: str
    median: float
    low: float
    high: float
    n: int
    aim: float | None = None


@dataclass(frozen=True)
class Way:
    """A way to make so many steps."""

    what: str
    make: Callable[[int], object]
    steps: int  # of a measurement
    watched: int  # under the profiler, which takes as long as some hundred kernels for each
    aim_x: float | None = None  # times the original's way
    aim_us: float | None = None  # of a step


def main(out: str, device: str = "cuda", sizes: Sizes | None = None) -> None:
    sizes = sizes or Sizes()
    as_in_cells(device)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Figure)])
        for figure in all_figures(device, sizes):
            writer.writerow(astuple(figure))
            file.flush()  # what is known stays, whatever comes
            print(*astuple(figure), sep="\t", flush=True)


def all_figures(device: str, sizes: Sizes) -> Iterator[Figure]:
    yield node_figure(device, sizes.rounds)
    for model, optimizer in ARMS:
        yield from arm_figures(model, optimizer, device, sizes)


def node_figure(device: str, rounds: int) -> Figure:
    """Microseconds of a graph's node that does next to nothing and waits for the one before."""
    number = torch.zeros(1, device=device)

    def add() -> None:
        for _ in range(NODES):
            number.add_(1)

    add()
    graph = graphs.captured(add)
    times = [microseconds(graph.replay, device, 10) / NODES for _ in range(rounds)]
    return figure("", "", "empty node of a graph", "us", times)


def arm_figures(model: str, optimizer: str, device: str, sizes: Sizes) -> Iterator[Figure]:
    ours = Ours(model, optimizer, device)
    ways = one_by_one(model, optimizer, ours, device, sizes.launched)
    aims = AIMS.get((model, optimizer)), AIMS_US.get((model, optimizer))
    longest = sizes.together[-1]
    for together in sizes.together:
        steps, seconds = captured(ours, together, device)
        yield figure(model, optimizer, f"capturing graphs of {together}", "s", [seconds])
        aimed = aims if together == longest else ()
        ways.append(graphs_of(together, "", steps, sizes.replayed, *aimed))
    if (model, optimizer) in sizes.compiled:
        compiled, seconds = compiled_ours(model, optimizer, device)
        yield figure(model, optimizer, "compiling", "s", [seconds])
        steps, _ = captured(compiled, longest, device)
        ways.append(graphs_of(longest, "compiled, ", steps, sizes.replayed, *aims))
    yield from way_figures(model, optimizer, ways, device, sizes.rounds)


def one_by_one(model: str, optimizer: str, ours: Ours, device: str, few: int) -> list[Way]:
    """The original's way and ours, kernel by kernel, both warmed up."""
    theirs, trainer = Theirs(model, optimizer, device=device), ours.trainer
    for _ in range(FIRST_STEPS):  # operator caches, the allocator, optimizers' state
        theirs.step()
        ours.step()

    def our_steps(n: int) -> list[Tensor]:
        return [*map(trainer.step, islice(trainer.positions, n))]

    return [
        Way("the original's way", lambda n: [theirs.step() for _ in range(n)], few, 2),
        Way("kernel by kernel", our_steps, few, 2),
    ]


def graphs_of(together: int, how: str, steps: StepsOnDevice, many: int, *aims: float | None) -> Way:
    n_watched = min(many, max(10, together))
    return Way(f"{how}graphs of {together}", partial(replay, steps), many, n_watched, *aims)


def captured(ours: Ours, together: int, device: str) -> tuple[StepsOnDevice, float]:
    """So many steps as a graph, and the seconds that capturing them took."""
    steps = ours.on_device(together)
    deque(steps.run(FIRST_STEPS), maxlen=0)
    return steps, microseconds(steps.capture, device) / 1e6


def compiled_ours(model: str, optimizer: str, device: str) -> tuple[Ours, float]:
    """Ours, the model compiled as `train.compile` does it; the seconds of its first step."""
    ours = Ours(model, optimizer, device)
    ours.trainer.forward = torch.compile(ours.trainer.model)
    return ours, microseconds(ours.step, device) / 1e6


def way_figures(
    model: str, optimizer: str, ways: Sequence[Way], device: str, rounds: int
) -> Iterator[Figure]:
    """Times of all ways in turn, also over those of the first; then what the device does."""

    def step_us(way: Way) -> float:
        return microseconds(partial(way.make, way.steps), device) / way.steps

    measures = [partial(step_us, way) for way in ways]
    times = interleaved(measures, rounds)
    for way, values in zip(ways, times, strict=True):
        yield figure(model, optimizer, f"step, {way.what}", "us", values, way.aim_us)
    for way, values in zip(ways[1:], times[1:], strict=True):
        faster = f"step, {way.what}, over the original's way"
        yield figure(model, optimizer, faster, "x", ratios(times[0], values), way.aim_x)
    for way in ways:
        seen, n = watched(partial(way.make, way.watched), device), way.watched
        yield figure(model, optimizer, f"kernels of a step, {way.what}", "", [seen.launches / n])
        yield figure(model, optimizer, f"GPU busy in a step, {way.what}", "us", [seen.busy_us / n])


def figure(
    model: str,
    optimizer: str,
    what: str,
    unit: str,
    values: Sequence[float],
    aim: float | None = None,
) -> Figure:
    low, high = values[0], values[0]
    if len(values) > 1:
        low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return Figure(
        model, optimizer, what, unit, statistics.median(values), low, high, len(values), aim
    )


if __name__ == "__main__":
    main(sys.argv[1])
