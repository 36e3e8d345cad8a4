"""make perf: what measuring costs, as ratios of step times.

One long cell runs, the real one in its real runtime; beside it the samplers are switched on and off
in turn, for some seconds each. Neighbouring stretches of the same training are compared, so that
neither a cold start, nor another model, nor a slow drift of the machine is taken for a cost. Leave
the machine alone while it runs.
"""

import argparse
import csv
import statistics
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.launch.choose import RUNTIMES, choose_launcher
from bench.launch.job import Exit, Job, Launcher, Stop
from bench.matrix.expansion import load_matrix
from bench.measure.host import FindProcesses
from bench.measure.machine import this_machine
from bench.measure.watch import SAMPLE_MS, Watch
from bench.records.corpora import find_corpus
from bench.worker.clocks import StepTimer
from tests.perf.rows import Row, table

ALLOWED = 1.0  # % of the step time
PAIRS = 60  # of stretches
# Short, so that a slow moment of the machine falls on both of a pair, but with readings of the host
# within, which come once a second.
STRETCH_S = 2.5
STEPS = 1_000_000  # more than a cell gets to: it is stopped when enough was seen

MATRIX = f"""\
name: perf
data: {{corpus: pydoc}}
train: {{steps: {STEPS}}}
eval: {{every: {STEPS}, train_windows: 1, protocol: sampled, batches: 1}}
matrix: {{model: [nanogpt], optimizer: [adamw], device: [DEVICE], seed: [1]}}
"""


@dataclass
class Cell:
    """The cell that runs, and when it trains."""

    find: FindProcesses = lambda: None
    training: threading.Event = field(default_factory=threading.Event)
    told: list[tuple[int, float]] = field(default_factory=list)  # (steps done, moment)

    def started(self, find: FindProcesses) -> None:
        self.find = find

    def event(self, event: dict[str, Any]) -> None:
        if event.get("stage") == "train":
            self.told.append((event["step"], time.monotonic()))
            self.training.set()


@dataclass(frozen=True)
class Stretch:
    sampled: bool
    begin: float  # of CLOCK_MONOTONIC
    end: float
    cpu_s: float  # spent by this process, which samples


def stretches(job: Job, cell: Cell, pairs: int) -> list[Stretch]:
    """While the cell trains: with, without, without, with, ..., so that a drift favours neither."""
    processes = cell.find()  # once, as for any cell: asking an engine takes long
    turns = [turn for pair in range(pairs) for turn in ((True, False), (False, True))[pair % 2]]
    return [stretch(job, lambda: processes, sampled) for sampled in turns]


def stretch(job: Job, find: FindProcesses, sampled: bool) -> Stretch:
    with Watch(job.gpu_uuids, job.cpus, SAMPLE_MS / 1000) if sampled else nullcontext() as watch:
        if watch is not None:
            watch.started(find)
            watch.event({"stage": "data"})  # which calls for a reading
            while not watch.readings.found:
                time.sleep(0.01)
        begin, cpu_before = time.monotonic(), time.process_time()
        time.sleep(STRETCH_S)
        end, cpu_s = time.monotonic(), time.process_time() - cpu_before
        if watch is not None:
            readings = [at for at, _ in watch.readings.host if begin <= at <= end]
            assert readings, "nothing was read: this would compare nothing with nothing"
        return Stretch(sampled, begin, end, cpu_s)


def run(job: Job, launcher: Launcher, pairs: int) -> tuple[list[Stretch], Cell]:
    """The cell from start to its end by our will."""
    cell, stop, ended = Cell(), Stop(), list[Exit]()
    thread = threading.Thread(target=lambda: ended.append(launcher.run(job, cell, stop)))
    thread.start()
    try:
        if not cell.training.wait(120):
            raise SystemExit(f"the cell does not train; see {job.files.log}")
        found = stretches(job, cell, pairs)
    finally:
        stop.set("enough was seen")
        thread.join()
    assert ended
    return found, cell


def steps_of(job: Job, cell: Cell) -> list[tuple[float, float]]:
    """(moment at which it ended, its time in ms) of each step.

    The worker tells twice a second how many are done; between two words steps are as long as timed.
    """
    with job.files.steps.open() as file:
        times_ms = [float(row["time_ms"]) for row in csv.DictReader(file)]
    steps = []
    for (before, _), (done, at) in pairwise(cell.told):
        left_ms = 0.0
        for time_ms in reversed(times_ms[before:done]):
            steps.append((at - left_ms / 1000, time_ms))
            left_ms += time_ms
    return sorted(steps)


def median_ms(stretch: Stretch, steps: list[tuple[float, float]]) -> float:
    inside = [ms for end, ms in steps if stretch.begin < end - ms / 1000 and end < stretch.end]
    return statistics.median(inside)


def cpu_share(found: list[Stretch]) -> float:
    """What the samplers use; the most that they can take from a cell that must share its CPU."""
    return sum(one.cpu_s if one.sampled else -one.cpu_s for one in found) / sum(
        one.end - one.begin for one in found if one.sampled
    )


def stamp_share(step_ms: float, device: str) -> float:
    """What timing each step takes of it: stamps are taken in the worker and cannot be switched."""
    timer, n = StepTimer(torch.device(device)), 20_000
    timer.begin_span()
    begin = time.perf_counter()
    for _ in range(n):
        timer.steps_done()
    return (time.perf_counter() - begin) / n * 1000 / step_ms


@dataclass(frozen=True)
class Cost:
    """What measuring takes of the step time; an interval is one of 95 %."""

    steps: int
    step_ms: float
    low: float  # beside samplers against without
    middle: float
    high: float
    readings: float  # the samplers' share of a CPU, the most that they can take from a cell
    stamps: float  # what timing each step takes of it

    @property
    def most(self) -> float:
        return self.high + self.readings + self.stamps


def measure(runtime: str, device: str, pairs: int) -> Cost:
    launcher, _ = choose_launcher(runtime, None)
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as place:
        matrix_file = Path(place) / "perf.yaml"
        matrix_file.write_text(MATRIX.replace("DEVICE", device))
        matrix = load_matrix(matrix_file)
        corpus = find_corpus(matrix.corpus)
        spec = matrix.with_corpus(corpus.ref).cells[0].spec
        files = CellFiles(Path(place) / "results" / "cells" / "perf-1")
        files.folder.mkdir(parents=True)
        files.spec.write_text(spec.to_json())
        gpus = (machine.gpus.gpus[0].uuid,) if device == "cuda" else ()
        cpus = machine.room.cpus[:1]
        job = Job(spec, Limits(timeout_s=7200.0), files, corpus.for_cells(), cpus, gpus)
        found, cell = run(job, launcher, pairs)
        return cost(found, steps_of(job, cell), device)


def cost(found: list[Stretch], steps: list[tuple[float, float]], device: str) -> Cost:
    """What stretches with and without samplers tell.

    What samplers do all the time shows in the median step of each stretch. A reading itself, once
    in hundreds of steps, does not; it can take no more from the cell than it takes of a CPU. The
    k-th smallest and largest of n ratios bound their median (a sign test): for 95 % and more,
    k = n/2 - sqrt(n).
    """
    on, off = (
        [median_ms(one, steps) for one in found if one.sampled is sampled]
        for sampled in (True, False)
    )
    ratios = sorted(with_ / without - 1 for with_, without in zip(on, off, strict=True))
    k = max(1, int(len(ratios) / 2 - len(ratios) ** 0.5))
    step_ms = statistics.median(ms for _, ms in steps)
    return Cost(
        steps=len(steps),
        step_ms=step_ms,
        low=ratios[k - 1],
        middle=statistics.median(ratios),
        high=ratios[-k],
        readings=cpu_share(found),
        stamps=stamp_share(step_ms, device),
    )


def rows(runtime: str, device: str = "cpu", pairs: int = PAIRS) -> list[Row]:
    found = measure(runtime, device, pairs)
    shares = {
        "steps beside samplers over without, low, median and high of 95 %": (
            found.low,
            found.middle,
            found.high,
        ),
        "readings, at most": (found.readings,),
        "stamps of each step": (found.stamps,),
    }
    each = [
        Row(what, tuple(100 * share for share in values), unit="%")
        for what, values in shares.items()
    ]
    most = Row("measuring, at most, of a step", (100 * found.most,), at_most=ALLOWED, unit="%")
    return [*each, most]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    found = rows(asked.runtime, asked.device, asked.pairs)
    print(table(found))
    return 0 if all(row.passes for row in found) else 1


if __name__ == "__main__":
    sys.exit(main())
