"""How long a report of thousands of cells takes, and how much memory, on two CPUs.

For each size a results folder is made up: 100 arms, equally many seeds for each, 100 evaluations a
cell, every figure filled, one cell in 50 diverged, one in 30 disturbed from outside. `python -m
bench report` reads it as a process of its own. Then the shards of a job array, FOLDERS of them, are
read in turn with one folder of as many cells. Exit code 0 only if the largest size keeps to SECONDS
and GIB, a further cell costs no more there than at smaller sizes, and the shards cost what one
folder does.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from bench.border.spec import CorpusRef
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.selection import select
from bench.records.cells import Cell
from bench.records.columns import CONSTANTS, METRICS, RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.rows import write_table
from bench.records.tables import CURVE_COLUMNS

SECONDS, GIB = 30.0, 1.5  # for the largest size
GROWTH = 1.5  # a further cell at the largest size against one at smaller sizes; 2 cores are noisy
FOLDERS, CELLS_OF_FOLDERS, TURNS = 400, 1_600, 3
SHARDED = 1.2  # CPU time of a report on shards against one on one folder, least of TURNS each
CPUS = 2

SIDE = 10  # models, and optimizers
EVALUATIONS, STEPS, TOKENS_A_STEP = 100, 9_900, 512
HOST = "0a1b2c3d4e5f"


def matrix_text(seeds: int) -> str:
    """SIDE x SIDE arms with names of their own, and a claim."""
    models = [f"gpt-{width}" for width in range(8, 8 + 8 * SIDE, 8)]
    optimizers = [f"adamw-{rate}" for rate in range(1, 1 + SIDE)]
    return "\n".join(
        [
            "name: scale",
            f"train: {{steps: {STEPS}, batch_size: 16, block_size: 32}}",
            "matrix:",
            f"  model: [{', '.join(models)}]",
            f"  optimizer: [{', '.join(optimizers)}]",
            "  device: [cuda]",
            f"  seed: [{', '.join(map(str, range(1, seeds + 1)))}]",
            "models:",
            *(f"  {name}: {{base: nanogpt, n_embd: {name[4:]}, n_head: 2}}" for name in models),
            "optimizers:",
            *(f"  {name}: {{base: adamw, lr: 0.{int(name[6:]):04}}}" for name in optimizers),
            "claim:",
            f"  baseline: {{model: {models[0]}, optimizer: {optimizers[0]}}}",
            "  metric: val_loss_final",
            "  margin: 0.01",
            "",
        ]
    )


def make_results(path: Path, cells: int, folders: int = 1) -> list[Path]:
    """Results of so many cells, to the nearest multiple of the arms; where they lie.

    One folder is `path` itself. Of several each has a shard, as `run --shard` leaves it: a plan of
    all cells, and rows of its own.
    """
    made = [path] if folders == 1 else [path / str(i) for i in range(folders)]
    for each in made:
        each.mkdir(parents=True)
    file = ResultsFolder(made[0]).matrix
    file.write_text(matrix_text(max(1, round(cells / SIDE**2))))
    matrix = load_matrix(file).with_corpus(CorpusRef("made up", "c0" * 32))
    arms = {arm: i for i, arm in enumerate(dict.fromkeys(c.spec.arm_id for c in matrix.cells))}
    noise = np.random.default_rng(1)
    ended = [
        Ended(number, cell, arms[cell.spec.arm_id], noise)
        for number, cell in enumerate(matrix.cells)
    ]
    rows = {one.cell.spec.run_id: one.row() for one in ended}
    for i, each in enumerate(made, start=1):
        chosen = select(matrix.cells, (), f"{i}/{folders}")
        _leave(each, matrix, [one for one in ended if one.cell.spec.run_id in chosen], rows)
    return made


def _leave(path: Path, matrix: Matrix, ended: Sequence["Ended"], rows: dict[str, Any]) -> None:
    """What a run of these cells leaves in its folder."""
    folder = ResultsFolder(path)
    ids = [one.cell.spec.run_id for one in ended]
    folder.write_plan(matrix.name, matrix.text, matrix.cells, set(ids))
    write_table(folder.runs, RUN_COLUMNS, (rows[run_id] for run_id in ids))
    with folder.curves.open("w") as file:
        file.write(",".join(CURVE_COLUMNS) + "\n")
        for one in ended:
            file.writelines(one.curve_lines())


class Ended:
    """One cell as it may have ended."""

    def __init__(self, number: int, cell: Cell, arm: int, noise: np.random.Generator) -> None:
        self.number, self.cell, self.arm = number, cell, arm
        self.ok = number % 50 != 7
        count = EVALUATIONS if self.ok else EVALUATIONS // 3
        self.steps = np.linspace(0, STEPS, EVALUATIONS).astype(int)[:count]
        self.seconds = self.steps * (0.01 + 1e-4 * arm) * noise.normal(1, 0.01)
        wobble = noise.normal(0, 0.01, (2, count)).cumsum(axis=1) / 10
        self.losses = 1.7 + 0.002 * arm + 2.7 * np.exp(-self.steps / 800) + wobble
        self.noise = noise

    def row(self) -> dict[str, Any]:
        spec, minute = self.cell.spec, self.number
        disturbed = spec.seed % 5 == 3 and self.number % 30 == 3
        row: dict[str, Any] = {name: abs(self.noise.normal(100, 5)) for name in METRICS}
        row |= dict.fromkeys(CONSTANTS, 1000 + self.arm) | {"threads": 1}
        row |= {"steps": int(self.steps[-1]), "tokens": int(self.steps[-1]) * TOKENS_A_STEP}
        row |= {"run_id": spec.run_id, "host_id": HOST, "attempt": 1, "arm_id": spec.arm_id}
        row |= {"schema_version": 1, "name": "scale", "model": spec.model.name}
        row |= {"optimizer": spec.optimizer.name, "device": spec.device, "seed": spec.seed}
        row |= {"order_in_seed": self.cell.order_in_seed, "status": "ok", "runtime": "docker"}
        if not self.ok:
            row |= {"status": "diverged", "reason": "loss is not finite", "stage": "train"}
        row |= {"log_path": f"cells/{spec.run_id}-1/worker.log", "env_id": "sha256:" + "e0" * 32}
        row |= {"code_sha256": "d0" * 32, "corpus": "made up", "corpus_sha256": "c0" * 32}
        day, hour = 1 + minute // 1440, minute // 60 % 24
        row |= {"started_at": f"2026-01-{day:02}T{hour:02}:{minute % 60:02}:00.000+00:00"}
        row |= {"val_loss_final": self.losses[1, -1].item(), "eval_protocol": "full"}
        row |= {"perplexity": math.exp(self.losses[1, -1]), "train_time_s": self.seconds[-1].item()}
        row |= {"tainted": disturbed, "taint_reasons": "cpu_steal 3.1%" if disturbed else ""}
        row |= {"host_cpu_model": "A processor", "gpu_name": "A GPU", "torch_version": "2.13.0"}
        row |= {"init_hash": f"{spec.model.name}{spec.seed}", "data_order_hash": f"d{spec.seed}"}
        return row

    def curve_lines(self) -> Iterator[str]:
        which = f"{self.cell.spec.run_id},{HOST},1"
        unknown = "," * (len(CURVE_COLUMNS) - 8)  # columns that the report does not read
        for step, second, train, val in zip(
            self.steps.tolist(), self.seconds.tolist(), *self.losses.tolist(), strict=True
        ):
            yield f"{which},{step},{step * TOKENS_A_STEP},{second!r},{train!r},{val!r}{unknown}\n"


@dataclass(frozen=True)
class Taken:
    """What one report took."""

    cells: int
    folders: int
    seconds: float
    cpu_seconds: float  # where these are fewer, it waited: is the machine busy?
    gib: float  # peak resident memory

    def __str__(self) -> str:
        cells = f"{self.cells:6} cells in {self.folders} folder{'s' if self.folders > 1 else ''}"
        cpu = f"({self.cpu_seconds:.1f} s of CPU)"
        return f"{cells}: {self.seconds:6.1f} s {cpu}, {self.gib:5.2f} GiB"


def report(folders: Sequence[Path], cells: int, scratch: Path) -> Taken:
    """Run the command as a person does; SystemExit if it fails."""
    argv = [sys.executable, "-m", "bench", "report", *map(str, folders)]
    new_cache = tempfile.mkdtemp(dir=scratch)  # where an earlier look at the claim is not noted
    begin = time.monotonic()
    process = subprocess.Popen(
        [*argv, "--out", str(scratch / "report")], env={**os.environ, "BENCH_CACHE": new_cache}
    )
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if code := os.waitstatus_to_exitcode(status):
        raise SystemExit(f"the report over {cells} cells ended with exit code {code}")
    cpu_seconds = usage.ru_utime + usage.ru_stime
    return Taken(cells, len(folders), seconds, cpu_seconds, usage.ru_maxrss / 2**20)


def grown(taken: Sequence[Taken]) -> list[str]:
    """Print what each size took; what is not as it should be."""
    for one in taken:
        print(one)
    last = taken[-1]
    wrong = []
    if last.seconds > SECONDS or last.gib > GIB:
        wrong.append(f"over {SECONDS:g} s or {GIB:g} GiB at {last.cells} cells")
    # What a further cell costs: the start of the program and of its libraries is not in it, and
    # by CPU time neither is waiting.
    each = [
        1000 * (b.cpu_seconds - a.cpu_seconds) / (b.cells - a.cells) for a, b in pairwise(taken)
    ]
    if len(each) > 1:
        growth = each[-1] / each[0]
        steps = ", then ".join(f"{ms:.2f} ms" for ms in each)
        print(f"a further cell: {steps} of CPU; growth {growth:.2f} (1 is linear)")
        if growth > GROWTH:
            wrong.append(f"growth over {GROWTH:g}")
    return wrong


def sharded(scratch: Path) -> list[str]:
    """Print what a report of shards takes against one of one folder; what is too much of it."""
    one = make_results(scratch / "one", CELLS_OF_FOLDERS)
    shards = make_results(scratch / "shards", CELLS_OF_FOLDERS, FOLDERS)
    taken: dict[int, list[Taken]] = {1: [], FOLDERS: []}
    for _ in range(TURNS):
        for folders in (one, shards):
            taken[len(folders)].append(report(folders, CELLS_OF_FOLDERS, scratch))
    least = {n: min(found, key=lambda each: each.cpu_seconds) for n, found in taken.items()}
    ratio = least[FOLDERS].cpu_seconds / least[1].cpu_seconds
    print(*least.values(), f"shards against one folder: {ratio:.2f} of its CPU time", sep="\n")
    return [f"shards cost over {SHARDED:g} times one folder"] if ratio > SHARDED else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, nargs="+", default=[1_000, 3_000, 10_000])
    asked = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CPUS])
    wrong = []
    with tempfile.TemporaryDirectory() as name:
        scratch, taken = Path(name), []
        for cells in sorted(asked.cells):
            folders = make_results(scratch / str(cells), cells)
            taken.append(report(folders, cells, scratch))
        wrong += grown(taken)
        wrong += sharded(scratch)
    allowed = (
        f"within {SECONDS:g} s, {GIB:g} GiB and linear growth; shards cost what one folder does"
    )
    print("; ".join(wrong) or allowed)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
