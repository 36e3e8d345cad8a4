"""What hearing a program costs: the CPU time of what runs and reads it, over the program's own.

The same script prints its lines or keeps them, in turn, so that neither the start of an interpreter
nor the folder that is laid out is taken for reading. A share of the program's time, for it may have
but one CPU, which it then shares with what reads it.
"""

import os
import tempfile
from collections.abc import Callable
from itertools import count
from pathlib import Path

from tests.builders.program_cells import ProgramRun
from tests.perf.rows import Row, interleaved

ALLOWED = 1.0  # % of the program's CPU time
ROUNDS = 5
STEP_MS = 5  # of a fast step of a small model
STEPS = 1_000
LINES = 100_000

# Lines as nanoGPT's, with a step of so many milliseconds of its own CPU time before each.
SCRIPT = """
import sys, time
for step in range({steps}):
    until = time.process_time() + {step_ms} / 1000
    while time.process_time() < until:
        pass
    if {prints}:
        print(f"iter {{step}}: loss {{4 / (step + 1):.4f}}, time {step_ms:.2f}ms, mfu 12.34%")
print("step 1: train loss 1.5, val loss 2.5")
"""
READ = (
    r"step (?P<step>\d+): train loss (?P<train_loss>\S+), val loss (?P<val_loss>\S+)",
    r"iter (?P<step>\d+): loss (?P<loss>\S+), time (?P<step_time_ms>\S+)ms",
)


def rows(runtime: str) -> list[Row]:
    """`runtime` is of no consequence: inside a container it is the same program."""
    free = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [max(free)])  # one CPU, as cells have by default
    try:
        return _rows()
    finally:
        os.sched_setaffinity(0, free)


def _rows() -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-perf-reading-") as place:
        places = (Path(place) / str(number) for number in count())

        def measure(steps: int, step_ms: int, prints: bool) -> Callable[[], float]:
            return lambda: share(next(places), steps, step_ms, prints)

        loud, silent, only_lines = interleaved(
            [
                measure(STEPS, STEP_MS, True),
                measure(STEPS, STEP_MS, False),
                measure(LINES, 0, True),
            ],
            ROUNDS,
        )
    reading = tuple(100 * (ours - start) for ours, start in zip(loud, silent, strict=True))
    return [
        Row(
            f"reading a line every {STEP_MS} ms, of the program", reading, at_most=ALLOWED, unit="%"
        ),
        Row("reading what does nothing but print, over printing it", only_lines),
    ]


def share(place: Path, steps: int, step_ms: int, prints: bool) -> float:
    """CPU time of what reads a program, over that of the program."""
    script = SCRIPT.format(steps=steps, step_ms=step_ms, prints=prints)
    ran = ProgramRun(place, script, read=READ).run()
    assert ran.end == ("ok", None), ran.end
    program_s = ran.row["cpu_time_s"]
    return (ran.cpu_s - program_s) / program_s
