"""A run that is killed ten times on its way ends with the curve of one that was left alone."""

import contextlib
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.border.checkpoints import NAME
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, read_table
from tests.builders.shared import ROOT, bench
from tests.run.chaos import kill_worker, left_running, measured, read_runs, wait_until_gone

KILLS, STEPS = 10, 300

MATRIX = f"""\
name: kills
train: {{steps: {STEPS}, batch_size: 8, block_size: 32, schedule: cosine, warmup_steps: 20}}
eval: {{every: 60, train_windows: 4}}
matrix: {{model: [small], optimizer: [muon], device: [cpu], seed: [1]}}
models: {{small: {{base: nanokimi, n_embd: 32, n_layer: 2, n_head: 2}}}}
limits: {{memory_gib: 1, checkpoint_every: 10 steps}}
"""


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    text = tmp_path / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    path = tmp_path / "kills.yaml"
    path.write_text(MATRIX + f"data: {{corpus: {text}}}\n")
    return path


def furthest(results: Path) -> int:
    """The step of the latest checkpoint."""
    found = (NAME.fullmatch(path.name) for path in results.glob("cells/*/checkpoints/*"))
    return max((int(name[1]) for name in found if name), default=0)


def kill_at(step: int, results: Path, arguments: list[str], draw: random.Random) -> None:
    """Start the run, and kill it or its worker a moment after it has come that far."""
    runner = subprocess.Popen([sys.executable, "-m", "bench", *arguments], cwd=ROOT)
    with runner:
        deadline = time.monotonic() + 120
        while furthest(results) < step and runner.poll() is None and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.05))
        if draw.random() < 0.5:
            kill_worker(runner, results, arguments[-1])
        else:
            with contextlib.suppress(ProcessLookupError):
                runner.send_signal(signal.SIGKILL)
    assert wait_until_gone(results, arguments[-1]) == []


def only_ok(results: Path) -> tuple[Row, tuple[object, ...]]:
    rows, halves = read_runs(results)
    assert halves == []
    (row,) = (row for row in rows if row["status"] == "ok")
    return row, measured(row, read_table(ResultsFolder(results).curves))


@pytest.mark.slow
def test_ten_kills_change_no_digit(matrix: Path, tmp_path: Path, runtime: str) -> None:
    seed = random.randrange(1_000_000)
    draw = random.Random(seed)
    results = tmp_path / "killed"
    arguments = ["run", str(matrix), "--out", str(results), "--retry-failed", "--runtime", runtime]
    steps = sorted(draw.sample(range(STEPS - 20), KILLS))
    for step in steps:
        kill_at(step, results, arguments, draw)
    assert bench(*arguments).returncode == 0, f"seed {seed}"
    killed, curve = only_ok(results)
    alone = tmp_path / "alone"
    assert bench("run", str(matrix), "--out", str(alone), "--runtime", runtime).returncode == 0
    undisturbed, expected = only_ok(alone)
    assert curve == expected, f"seed {seed}, killed at {steps}"
    # Not ten where a kill came before the first checkpoint, or on the worker's last breath.
    assert int(killed["resumed"]) >= KILLS // 2, f"seed {seed}, killed at {steps}"
    assert (killed["tainted"], undisturbed["resumed"]) == ("true", "0")
    assert not list(results.glob("cells/*/checkpoints"))
    assert left_running(results, runtime) == []
