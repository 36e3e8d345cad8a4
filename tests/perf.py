"""make perf: what measuring costs, as ratios from interleaved runs of real cells.

Each round runs the same cell in three ways, in an order that rotates from round to round, so that
neither drift nor a cold start favours one: with samplers and step times, without samplers, and
without either. Needs a machine that does nothing else.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from bench.records import Row, read_table

ROOT = Path(__file__).parent.parent
ALLOWED = 0.01  # of the step time

MATRIX = """\
name: perf
data: {{corpus: pydoc}}
train: {{steps: {steps}, step_timing: {timing}}}
eval: {{every: {steps}, protocol: sampled, batches: 10}}
matrix: {{model: [nanogpt], optimizer: [adamw], device: [{device}], seed: [1]}}
"""


@dataclass(frozen=True)
class Way:
    name: str
    timing: str  # train.step_timing
    sample_ms: int


WAYS = (
    Way("as usual", "sampled", 100),
    Way("no samplers", "sampled", 0),
    Way("no samplers, no step times", "off", 0),
)


def run_cell(way: Way, folder: Path, asked: argparse.Namespace) -> Row:
    matrix = folder / "perf.yaml"
    text = MATRIX.format(steps=asked.steps, timing=way.timing, device=asked.device)
    matrix.write_text(text)
    options = ["--runtime", asked.runtime, "--sample-ms", str(way.sample_ms), "--out", str(folder)]
    command = [sys.executable, "-m", "bench", "run", str(matrix), *options]
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    (row,) = read_table(folder / "runs.csv")
    return row


def step_ms(row: Row) -> float:
    """The mean over the whole training phase: it holds what a median would pass over."""
    return float(row["train_time_s"]) / int(row["steps"]) * 1000


def compare(name: str, times: list[float], base: list[float]) -> float:
    """Print by how much the first is slower; the lower end of the median's interval.

    The second smallest and second largest of n ratios bound their median with a confidence of
    1 - 2 (n + 1) / 2^n: 97.9 % at n = 10 (order statistics of a sign test).
    """
    ratios = sorted(one / other - 1 for one, other in zip(times, base, strict=True))
    n = len(ratios)
    low, high = ratios[1], ratios[-2]
    confidence = 1 - 2 * (n + 1) / 2**n
    print(
        f"{name}: {statistics.median(ratios):+.2%} of the step time "
        f"({confidence:.1%} interval {low:+.2%} to {high:+.2%}, {n} pairs)"
    )
    return low


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    asked = parser.parse_args()
    rows: dict[Way, list[Row]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as place:
        os.environ.setdefault("BENCH_CACHE", place)
        for number in range(asked.rounds):
            turn = number % len(WAYS)
            for way in WAYS[turn:] + WAYS[:turn]:
                folder = Path(place) / f"{number}-{WAYS.index(way)}"
                folder.mkdir()
                rows[way].append(run_cell(way, folder, asked))
                print(f"round {number + 1}: {way.name}: {step_ms(rows[way][-1]):.3f} ms a step")
    usual, silent, bare = ([step_ms(row) for row in rows[way]] for way in WAYS)
    print()
    lows = [
        compare("sampling (GPU and host readings)", usual, silent),
        compare("timing each step", silent, bare),
        compare("both", usual, bare),
    ]
    unaccounted = [
        float(row["unaccounted_time_s"]) / float(row["wall_time_s"]) for row in rows[WAYS[0]]
    ]
    print(f"unaccounted_time_s: at most {max(unaccounted):.2%} of the wall time")
    tainted = [row["taint_reasons"] for row in rows[WAYS[0]] if row["tainted"] == "true"]
    if tainted:
        print(f"disturbed from outside: {len(tainted)} cells ({'; '.join(tainted)})")
    return int(any(low > ALLOWED for low in lows))


if __name__ == "__main__":
    sys.exit(main())
