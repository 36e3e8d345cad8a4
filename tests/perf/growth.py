"""Step time and memory as a model grows, beside the growth of its arithmetic.

`python -m tests.perf.growth` prints the table of docs/performance.md and draws its picture. Every
size is a process of its own with one thread; what counts is the least over the rounds, in which
sizes take turns: what a busy machine adds is no growth.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.border.surroundings import worker_environment

PICTURE = Path(__file__).parents[2] / "docs" / "growth.png"
ROUNDS = 2
WARMUP, STEPS = 3, 9
SECONDS = 2.0  # of steps at most, for large sizes
# nanokimi + truemuon at the original's sizes, but for the one that varies.
SIZES = {
    "n_experts": (4, 8, 16, 32, 64),
    "n_layer": (2, 4, 8, 16),
    "n_embd": (32, 64, 128, 256),
    "block_size": (16, 32, 64, 128, 256),
    "batch_size": (4, 8, 16, 32, 64),
}
TRAIN_SIZES = ("block_size", "batch_size")
MIB = 2**20


@dataclass(frozen=True)
class Point:
    """One size: what was measured, and what its arithmetic is."""

    step_ms: float
    memory_mib: float  # the peak, without torch and the corpus
    gflop: float  # of a step, the optimizer's included
    needed_mib: float  # weights, gradients, the optimizer's tensors, what backward needs


def measure(name: str, size: int) -> Point:
    """In this process, once: its peak of memory is the point's."""

    from bench.border.logical import initialise
    from bench.border.options import NanoKimiOptions, TrainOptions, TrueMuonOptions
    from bench.models import nanokimi
    from bench.optim import truemuon
    from bench.worker.clocks import PhaseClock
    from bench.worker.positions import BatchPositions
    from bench.worker.streams import torch_stream
    from bench.worker.training import Trainer
    from tests.perf.arms import pydoc

    asked = {name: size}
    train = TrainOptions(**asked if name in TRAIN_SIZES else {})
    options = NanoKimiOptions(**{} if name in TRAIN_SIZES else asked)
    tokens = pydoc()
    windows = tokens.windows("train", train.block_size)
    before_mib = peak_mib()
    model = nanokimi.build(options, tokens.vocab_size, train.block_size)
    stacks = model.stacks()
    initialise(stacks, lambda key: torch_stream(1, "weights", key))
    positions = BatchPositions(1, WARMUP + STEPS, train.batch_size, len(windows))
    trainer = Trainer(model, [], windows, positions, PhaseClock())
    trainer.optimizers = truemuon.build(stacks, TrueMuonOptions())
    times_ms = []
    begin = time.monotonic()
    for index, row in enumerate(positions):
        started = time.perf_counter()
        trainer.step(row)
        if index >= WARMUP:
            times_ms.append((time.perf_counter() - started) * 1e3)
            if time.monotonic() - begin > SECONDS:
                break
    memory_mib = peak_mib() - before_mib
    flop = train.batch_size * train.block_size * model.flops_per_token()
    flop += truemuon.flops_per_step(stacks, TrueMuonOptions())
    held = 4 * model.n_params() * 2 + sum(tensor_bytes(each) for each in trainer.optimizers)
    held += saved_bytes(trainer, positions[0])
    return Point(statistics.median(times_ms), memory_mib, flop / 1e9, held / MIB)


def peak_mib() -> float:
    from bench.worker.environment import rss_peak_mib

    found = rss_peak_mib()
    assert found is not None
    return found


def tensor_bytes(optimizer: Any) -> int:
    """Of an optimizer's state, and of TrueMuon's gathered gradients."""
    held = {
        value.untyped_storage().data_ptr(): value.untyped_storage().nbytes()
        for state in optimizer.state.values()
        for value in state.values()
    }
    update = getattr(optimizer, "update", None)
    return sum(held.values()) + (0 if update is None else update.nbytes)


def saved_bytes(trainer: Any, positions: Any) -> int:
    """What a forward pass keeps for its backward, weights not counted."""
    import torch

    from bench.worker.evaluation import cross_entropy

    weights = {each.untyped_storage().data_ptr() for each in trainer.model.parameters()}
    held: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        held[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    batch = trainer.windows.at(positions)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = cross_entropy(trainer.model(batch[:, :-1]), batch[:, 1:])
    assert loss.requires_grad
    return sum(storage.nbytes() for at, storage in held.items() if at not in weights)


def ask(name: str, size: int) -> Point:
    answer = subprocess.run(
        [sys.executable, "-m", "tests.perf.growth", name, str(size)],
        env={**os.environ, **worker_environment(1)},
        check=True,
        capture_output=True,
        text=True,
    )
    return Point(**json.loads(answer.stdout))


def least(points: list[Point]) -> Point:
    return Point(
        min(point.step_ms for point in points),
        min(point.memory_mib for point in points),
        points[0].gflop,
        points[0].needed_mib,
    )


def table(found: dict[str, dict[int, Point]]) -> str:
    lines = [
        "| size | step, ms | GFLOP a step | GFLOP/s | memory, MiB | needed, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for name, points in found.items():
        base = min(points)
        for size, point in points.items():
            first = points[base]
            times = (
                f"{point.step_ms:.1f} (x {point.step_ms / first.step_ms:.2f})",
                f"{point.gflop:.2f} (x {point.gflop / first.gflop:.2f})",
                f"{point.gflop / point.step_ms * 1e3:.0f}",
                f"{point.memory_mib:.0f} (x {point.memory_mib / first.memory_mib:.2f})",
                f"{point.needed_mib:.1f} (x {point.needed_mib / first.needed_mib:.2f})",
            )
            lines.append(f"| {name} {size} | " + " | ".join(times) + " |")
    return "\n".join(lines)


def draw(found: dict[str, dict[int, Point]], path: Path) -> None:
    """Both growths over each size, from 1 at its smallest, on logarithmic axes."""
    import matplotlib.pyplot as plt

    figure, rows = plt.subplots(2, len(found), figsize=(15, 6), sharex="col")
    for column, (name, points) in enumerate(found.items()):
        pairs = (("step_ms", "gflop"), ("memory_mib", "needed_mib"))
        for axes, (measured, arithmetic) in zip(rows[:, column], pairs, strict=True):
            for field, style in ((measured, "o-"), (arithmetic, "k--")):
                values = [getattr(point, field) for point in points.values()]
                axes.loglog(list(points), [value / values[0] for value in values], style)
            axes.set_xticks(list(points), [str(size) for size in points])
            axes.minorticks_off()
            axes.grid(True, alpha=0.3)
        rows[1, column].set_xlabel(name)
    rows[0, 0].set_ylabel("step time (dashed: FLOPs)\nover the smallest")
    rows[1, 0].set_ylabel("memory (dashed: needed)\nover the smallest")
    figure.suptitle("nanokimi + truemuon, one CPU and one thread: growth of one size at a time")
    figure.tight_layout()
    figure.savefig(path, dpi=90)


def main() -> None:
    if len(sys.argv) == 3:
        print(json.dumps(vars(measure(sys.argv[1], int(sys.argv[2])))))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:1])
    rounds = [
        {(name, size): ask(name, size) for name, sizes in SIZES.items() for size in sizes}
        for _ in range(ROUNDS)
    ]
    found = {
        name: {size: least([each[name, size] for each in rounds]) for size in sizes}
        for name, sizes in SIZES.items()
    }
    print(table(found))
    draw(found, PICTURE)


if __name__ == "__main__":
    main()
