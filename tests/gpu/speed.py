"""Training steps on a GPU beside the original's way: `python -m tests.gpu.speed OUT.csv`.

Of each arm: microseconds a step the original's way, ours kernel by kernel, and ours in graphs, in
turn; kernels a step and how long they keep the GPU busy, by torch's profiler; what capturing costs.
The floor of a graph is its chain of kernels, each at least as long as an empty one: their number
times the time of a node that adds 1 to a single number.
"""

import csv
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from itertools import product

import torch
from torch.profiler import ProfilerActivity, profile

from bench.worker.graphs import StepsOnDevice
from tests.perf.arms import MODEL_OPTIONS, OPTIMIZER_OPTIONS, Ours, Theirs
from tests.perf.rows import interleaved, ratios

AIMS = {("nanogpt", "adamw"): 30.0, ("nanokimi", "truemuon"): 60.0}  # times the original's way
ROUNDS = 7
STEPS = 100  # a measurement; divided by every length of a graph
TOGETHER = (1, 10, 100)
NODES = 1_000


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


def main(out: str) -> None:
    figures = [*node_figures()]
    for model, optimizer in product(MODEL_OPTIONS, OPTIMIZER_OPTIONS):
        figures += arm_figures(model, optimizer)
    with open(out, "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([field.name for field in fields(Figure)])
        writer.writerows(astuple(figure) for figure in figures)
    for figure in figures:
        print(*astuple(figure), sep="\t")


def node_figures() -> Iterator[Figure]:
    """Microseconds of a graph's node that does next to nothing and waits for the one before."""
    number = torch.zeros(1, device="cuda")
    number.add_(1)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(NODES):
            number.add_(1)
    times = [microseconds(graph.replay, 10) / NODES for _ in range(ROUNDS)]
    yield figure("", "", "empty node of a graph", "us", times)


def arm_figures(model: str, optimizer: str) -> Iterator[Figure]:
    theirs, ours = Theirs(model, optimizer, device="cuda"), Ours(model, optimizer, "cuda")
    trainer = ours.trainer
    for _ in range(5):  # warm-up: operator caches, the allocator
        theirs.step()
        trainer.step(trainer.positions[0])
    graphs = {}
    for together in TOGETHER:
        losses = torch.zeros(len(trainer.positions), device="cuda")
        graphs[together] = StepsOnDevice(trainer.step, trainer.positions, losses, together)
        seconds = microseconds(graphs[together].capture, 1) / 1e6
        yield figure(model, optimizer, f"capturing {together} steps", "s", [seconds])

    def in_graphs(together: int) -> None:
        graphs[together].place.zero_()  # the table of batches starts anew
        for _ in graphs[together].run(STEPS):
            pass

    ways: dict[str, Callable[[], object]] = {
        "step, the original's way": lambda: [theirs.step() for _ in range(STEPS)],
        "step, kernel by kernel": lambda: [trainer.step(p) for p in trainer.positions[:STEPS]],
        **{
            f"step, graphs of {together}": lambda together=together: in_graphs(together)
            for together in TOGETHER
        },
    }
    measures = [lambda way=way: microseconds(way, 1) / STEPS for way in ways.values()]
    original, *rest = interleaved(measures, ROUNDS)
    for what, times in zip(ways, (original, *rest), strict=True):
        yield figure(model, optimizer, what, "us", times)
    for what, times in list(zip(ways, (original, *rest), strict=True))[1:]:
        aim = AIMS.get((model, optimizer)) if "graphs of 100" in what else None
        faster = f"{what}, over the original's way"
        yield figure(model, optimizer, faster, "x", ratios(original, times), aim)
    for what, way in ways.items():
        kernels, busy_us = kernels_of(way)
        yield figure(model, optimizer, f"kernels of a {what}", "", [kernels / STEPS])
        yield figure(model, optimizer, f"GPU busy in a {what}", "us", [busy_us / STEPS])


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


def microseconds(work: Callable[[], object], times: int) -> float:
    """Of one, with the device waited for at both edges."""
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) * 1e6 / times


def kernels_of(work: Callable[[], object]) -> tuple[int, float]:
    """How many kernels, copies and fills, and the microseconds in which at least one ran."""
    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        work()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in seen.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, until = 0.0, 0.0
    for begin, end in spans:
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return len(spans), busy


if __name__ == "__main__":
    main(sys.argv[1])
