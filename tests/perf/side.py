"""One side of a comparison in a process of its own: `python -m tests.perf.side ours|original N`.

Reads lines `MODEL OPTIMIZER WHAT` and answers each with a number: milliseconds of a training step,
of the optimizers' step or of a step's matrix products alone; their GFLOP; microseconds of
evaluating a token.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache

from bench.border.surroundings import worker_environment

STEPS = 12  # a measurement
CHOSEN = ("OMP_", "MKL_", "GLIBC_", "MALLOC_")


class Side:
    """The process, on these CPUs, with so many threads (the original: torch's own choice)."""

    def __init__(self, whose: str, cpus: Sequence[int]) -> None:
        # Ours as a cell has it; the original with nothing that another choice has left there.
        plain = {k: v for k, v in os.environ.items() if not k.startswith(CHOSEN)}
        ours = worker_environment(len(cpus)) if whose == "ours" else {}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.perf.side", whose],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**plain, **ours},
        )
        os.sched_setaffinity(self.process.pid, cpus)

    def ask(self, model: str, optimizer: str, what: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{model} {optimizer} {what}\n")
        self.process.stdin.flush()

    def answer(self) -> float:
        assert self.process.stdout is not None
        return float(self.process.stdout.readline())

    def measure(self, model: str, optimizer: str, what: str) -> float:
        self.ask(model, optimizer, what)
        return self.answer()

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def main() -> None:
    from tests.perf.arms import SIDES, Work
    from tests.perf.limit import gflop_of, products_of

    @cache
    def side(model: str, optimizer: str) -> Work:
        made = SIDES[sys.argv[1]](model, optimizer)
        made.step()
        return made

    @cache
    def products(model: str, optimizer: str) -> Callable[[], None]:
        return products_of(side(model, optimizer).step)

    def answer(model: str, optimizer: str, what: str) -> float:
        work = side(model, optimizer)
        match what:
            case "step":
                return milliseconds(work.step, STEPS)
            case "optimizer":
                work.gradients()
                return milliseconds(work.optimizers_step, STEPS)
            case "products":
                return milliseconds(products(model, optimizer), STEPS)
            case "gflop":
                return gflop_of(products(model, optimizer))
            case "eval":
                begin = time.perf_counter()
                tokens = work.evaluate()
                return (time.perf_counter() - begin) * 1e6 / tokens
        raise ValueError(what)

    for line in sys.stdin:
        print(answer(*line.split()), flush=True)


def milliseconds(work: Callable[[], object], times: int) -> float:
    begin = time.perf_counter()
    for _ in range(times):
        work()
    return (time.perf_counter() - begin) * 1e3 / times


if __name__ == "__main__":
    main()
