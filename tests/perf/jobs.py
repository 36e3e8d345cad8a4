"""make perf: two cells at once end a matrix nearly twice as soon, and slow each other little.

The same matrix of one-CPU cells is run one by one and two at once, in turn. A median step time is
compared with that of the same cell alone, of the same round.
"""

import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from bench.records.rows import Row as RunRow
from bench.records.rows import read_table
from tests.perf.rows import Row, interleaved, ratios

ROOT = Path(__file__).parents[2]
ROUNDS = 3
SOONER = 1.8  # of 2 at most
SLOWER = 1.05

MATRIX = """\
name: jobs
data: {corpus: pydoc}
train: {steps: 300}
eval: {every: 300, protocol: sampled, batches: 10}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1, 2]
limits: {memory_gib: 1, cpus: 1}
"""


@dataclass
class Runs:
    """The matrix as often as asked, always from nothing, so many cells at once."""

    place: Path
    runtime: str
    jobs: int
    cells: list[dict[str, RunRow]] = field(default_factory=list)  # of each run, by run_id

    def run(self) -> float:
        """Wall time in seconds, start and end of the program included."""
        matrix, out = self.place / "jobs.yaml", self.place / f"{self.jobs}-{len(self.cells)}"
        matrix.write_text(MATRIX)
        command = [sys.executable, "-m", "bench", "run", str(matrix), "--out", str(out)]
        command += ["--runtime", self.runtime, "--jobs", str(self.jobs)]
        begun = time.monotonic()
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        wall_s = time.monotonic() - begun
        self.cells.append({row["run_id"]: row for row in read_table(out / "runs.csv")})
        return wall_s


def rows(runtime: str, rounds: int = ROUNDS) -> list[Row]:
    """How much sooner the whole ends, and how much longer a step takes, arm by arm."""
    with tempfile.TemporaryDirectory(prefix="bench-perf-jobs-") as place:
        one, two = (Runs(Path(place), runtime, jobs) for jobs in (1, 2))
        alone_s, beside_s = interleaved([one.run, two.run], rounds)
    sooner = Row("matrix of 8 cells, two at once", ratios(alone_s, beside_s), at_least=SOONER)
    return [sooner, *_steps(one, two)]


def _steps(alone: Runs, beside: Runs) -> list[Row]:
    """Median step time of a cell with a neighbour over that of the cell alone."""
    found: dict[str, list[float]] = defaultdict(list)
    for before, after in zip(alone.cells, beside.cells, strict=True):
        for run_id, row in before.items():
            if after[run_id]["neighbours"] != "0":  # the last may have been left alone
                ratio = _step_ms(after[run_id]) / _step_ms(row)
                found[f"{row['model']} + {row['optimizer']}"].append(ratio)
    assert len(found) == 4, f"no neighbours in the rows of an arm; there are {sorted(found)}"
    return [
        Row(f"step beside another cell, {arm}", tuple(values), at_most=SLOWER)
        for arm, values in found.items()
    ]


def _step_ms(row: RunRow) -> float:
    return float(row["step_time_ms_p50"])
