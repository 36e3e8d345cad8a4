"""Experts that tokens choose: what more of them cost while a token visits as many.

A process of its own with a worker's variables (memory that is kept, above all), one thread, on one
CPU. It runs forward and backward of a mixture alone: what surrounds it is the same for any number
of experts, and an optimizer's work grows with the parameters, whoever chose them.

`python -m tests.perf.topk` reads lines `TOKENS N_EMBD GATING N_EXPERTS` and answers each with
milliseconds.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache

from tests.perf.answering import answering
from tests.perf.rows import Row, interleaved, ratios

ROUNDS = 9
FEW, MANY, TOP_K = 8, 64, 2
ALLOWED = 1.25
# (tokens of a step, n_embd): where the time is arithmetic, since each of 64 experts still has 256
# tokens, and the original's own size, where each has 16.
LARGE, NANO = (8_192, 256), (512, 64)


def rows(runtime: str) -> list[Row]:
    """A local process, whatever the runtime: the arithmetic is the same."""
    with answering("tests.perf.topk") as process:
        return [
            *_rows(process, "a large mixture", *LARGE, at_most=ALLOWED),
            *_rows(process, "a nano mixture", *NANO, at_most=None),
        ]


def _rows(
    process: subprocess.Popen[str], what: str, tokens: int, d: int, at_most: float | None
) -> list[Row]:
    arms = [("topk", FEW), ("topk", MANY), ("all", FEW)]
    measures = [_measure(process, f"{tokens} {d} {gating} {n}") for gating, n in arms]
    for measure in measures:  # once without looking: caches, and models to be built
        measure()
    few, many, visited = interleaved(measures, ROUNDS)
    chosen = f"{what}, {TOP_K} of {FEW} experts"
    return [
        Row(
            f"{what}, {TOP_K} of {MANY} experts / {TOP_K} of {FEW}",
            ratios(many, few),
            None,
            at_most,
        ),
        Row(f"{chosen} / all {FEW}", ratios(few, visited)),
    ]


def _measure(process: subprocess.Popen[str], line: str) -> Callable[[], float]:
    def measure() -> float:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    return measure


def main() -> None:
    import torch  # the asking side needs none

    from bench.border.logical import initialise
    from bench.border.options import NanoKimiOptions
    from bench.models.nanokimi import Mixture
    from bench.worker.streams import torch_stream

    torch.set_num_threads(1)

    @cache
    def mixture(d: int, gating: str, n_experts: int) -> Mixture:
        chosen = {"gating": "topk", "top_k": TOP_K} if gating == "topk" else {}
        built = Mixture(NanoKimiOptions(n_embd=d, n_experts=n_experts, **chosen))
        initialise(built.stacks("mixture"), lambda name: torch_stream(1, "weights", name))
        return built

    def step_ms(tokens: int, d: int, gating: str, n_experts: int) -> float:
        asked = mixture(d, gating, n_experts)
        x = torch.randn(tokens, d, generator=torch_stream(1, "tokens")).requires_grad_()
        begin = time.perf_counter()
        asked(x, x).sum().backward()
        elapsed_ms = (time.perf_counter() - begin) * 1e3
        asked.zero_grad()
        return elapsed_ms

    for line in sys.stdin:
        tokens, d, gating, n_experts = line.split()
        print(step_ms(int(tokens), int(d), gating, int(n_experts)), flush=True)


if __name__ == "__main__":
    main()
