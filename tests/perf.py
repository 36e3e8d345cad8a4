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
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from bench.corpora import find_corpus
from bench.launch.choose import RUNTIMES, choose_launcher
from bench.launch.job import Exit, Job, Launcher, Stop
from bench.matrix import load_matrix
from bench.measure.host import FindProcesses
from bench.measure.machine import this_machine
from bench.measure.watch import SAMPLE_MS, Watch
from bench.options import Limits
from bench.outcome import judge
from bench.spec import CellFiles
from bench.worker.clocks import StepTimer

ALLOWED = 0.01  # of the step time
STRETCH_S = 1.0  # short, so that a slow moment of the machine falls on both of a pair
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

    def started(self, find: FindProcesses) -> None:
        self.find = find

    def event(self, event: dict[str, Any]) -> None:
        if event.get("stage") == "train":
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
    with Watch(job.gpu_uuid, job.cpus, SAMPLE_MS / 1000) if sampled else nullcontext() as watch:
        if watch is not None:
            watch.started(find)
            watch.event({"stage": "train"})
        begin, cpu_before = time.monotonic(), time.process_time()
        time.sleep(STRETCH_S)
        return Stretch(sampled, begin, time.monotonic(), time.process_time() - cpu_before)


def run(job: Job, launcher: Launcher, pairs: int) -> tuple[list[Stretch], Exit]:
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
    return found, ended[0]


def step_ends(job: Job, ended: Exit) -> tuple[list[float], list[float]]:
    """(moment of CLOCK_MONOTONIC at which each step ended, its time in ms)."""
    ((begin, _),) = judge(job, ended).phases.train or ((None, None),)
    if begin is None:
        raise SystemExit(f"the cell left no steps; see {job.files.folder}")
    with job.files.steps.open() as file:
        times_ms = [float(row["time_ms"]) for row in csv.DictReader(file)]
    return [begin + passed / 1000 for passed in accumulate(times_ms)], times_ms


def mean_ms(stretch: Stretch, ends: list[float], times_ms: list[float]) -> float:
    """The mean, not the median: it holds what happens only now and then."""
    return statistics.fmean(
        ms
        for end, ms in zip(ends, times_ms, strict=True)
        if stretch.begin < end - ms / 1000 and end < stretch.end
    )


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
        timer.step_done()
    return (time.perf_counter() - begin) / n * 1000 / step_ms


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=120)
    parser.add_argument("--runtime", choices=RUNTIMES, default="auto")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    asked = parser.parse_args()
    launcher, why = choose_launcher(asked.runtime, None)
    machine = this_machine()
    with tempfile.TemporaryDirectory(prefix="bench-perf-") as place:
        matrix_file = Path(place) / "perf.yaml"
        matrix_file.write_text(MATRIX.replace("DEVICE", asked.device))
        matrix = load_matrix(matrix_file)
        corpus = find_corpus(matrix.corpus)
        spec = matrix.with_corpus(corpus.ref).cells[0].spec
        files = CellFiles(Path(place) / "results" / "cells" / "perf-1")
        files.folder.mkdir(parents=True)
        files.spec.write_text(spec.to_json())
        gpu = machine.gpus.gpus[0].uuid if asked.device == "cuda" else None
        job = Job(spec, Limits(timeout_s=7200.0), files, corpus.store(), machine.cpus[:1], gpu)
        print(f"runtime: {why}; {asked.pairs} pairs of {STRETCH_S:g} s with and without samplers")
        found, ended = run(job, launcher, asked.pairs)
        ends, times_ms = step_ends(job, ended)
    return tell(found, ends, times_ms, asked.device)


def tell(found: list[Stretch], ends: list[float], times_ms: list[float], device: str) -> int:
    """Print what it costs; 1 if that is surely more than is allowed.

    The k-th smallest and k-th largest of n ratios bound their median by order statistics (a sign
    test): for k = n/2 - sqrt(n), with a confidence of 95 % or more.
    """
    on, off = (
        [mean_ms(one, ends, times_ms) for one in found if one.sampled is sampled]
        for sampled in (True, False)
    )
    ratios = sorted(with_ / without - 1 for with_, without in zip(on, off, strict=True))
    k = max(1, int(len(ratios) / 2 - len(ratios) ** 0.5))
    low, high = ratios[k - 1], ratios[-k]
    step_ms = statistics.median(times_ms)
    stamps = stamp_share(step_ms, device)
    print(f"steps: {len(times_ms)}, median {step_ms:.3f} ms")
    median = statistics.median(ratios)
    print(f"samplers: {median:+.2%} of the step time (95 %: {low:+.2%} to {high:+.2%})")
    print(f"samplers' own CPU time: {cpu_share(found):.2%} of one CPU, not the cell's")
    print(f"stamps of each step: {stamps:+.4%} of the step time")
    return int(low + stamps > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
