"""Where a cell's wall time went: every second is in the column of its phase, and in no other."""

import json
import sys
from pathlib import Path

import pytest

from bench.border.spec import PHASES
from bench.records.rows import Row, read_table
from tests.builders.shared import bench

SLOW_WORKER = Path(__file__).parents[1] / "builders" / "slow_worker.py"
SLEEP_S = 1.5


def only_row(results: Path) -> tuple[Row, Path]:
    (row,) = read_table(results / "runs.csv")
    return row, results / "cells" / f"{row['run_id']}-{row['attempt']}"


def slow_python(folder: Path, phase: str) -> Path:
    """An interpreter that runs the slow worker in the real one's place."""
    script = folder / "python"
    variables = f"SLOW_PHASE={phase} SLEEP_S={SLEEP_S} SLEPT={folder / 'slept'}"
    script.write_text(
        "#!/bin/sh\n"
        f'[ "$3" = bench.worker ] || exec {sys.executable} "$@"\n'
        f'shift 3; {variables} exec {sys.executable} {SLOW_WORKER} "$@"\n'
    )
    script.chmod(0o755)
    return script


WORKERS = tuple(phase for phase in PHASES if phase not in ("compile", "wait", "checkpoint"))


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["startup", *WORKERS, "teardown"])
def test_a_sleep_is_found_in_its_phase_and_nowhere_else(
    phase: str, tiny_matrix: Path, tmp_path: Path
) -> None:
    results, python = tmp_path / "results", slow_python(tmp_path, phase)
    options = ["--runtime", "local", "--worker-python", python, "--out", results]
    answer = bench("run", tiny_matrix, *options, "--shard", "1/4")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    row, folder = only_row(results)
    result = json.loads((folder / "result.json").read_text())
    begin, end = map(float, (tmp_path / "slept").read_text().split())
    assert float(row[f"{phase}_time_s"]) >= SLEEP_S
    assert float(row["unaccounted_time_s"]) < SLEEP_S
    spans = {name: [(b, e) for n, b, e in result["spans"] if n == name] for name in WORKERS}
    spans["startup"] = [(0.0, result["started"])]
    spans["teardown"] = [(result["finished"], float("inf"))]
    holding = {name for name, its in spans.items() for b, e in its if b < end and begin < e}
    assert holding == {phase}
    for name in WORKERS:
        inside = sum(e - b for b, e in spans[name])
        assert float(row[f"{name}_time_s"]) == pytest.approx(inside, abs=0.05)


@pytest.mark.slow
def test_less_than_2_percent_of_a_real_cells_time_is_unaccounted(
    tiny_matrix: Path, tmp_path: Path
) -> None:
    text = tiny_matrix.read_text().replace("steps: 4, batch_size: 2", "steps: 900, batch_size: 16")
    text = text.replace("block_size: 8", "block_size: 32").replace("every: 2", "every: 100")
    tiny_matrix.write_text(text.replace("model: [small]", "model: [nanogpt]"))
    results = tmp_path / "results"
    options = ["--runtime", "local", "--out", results, "--shard", "1/4"]
    assert bench("run", tiny_matrix, *options).returncode == 0
    row, _ = only_row(results)
    if float(row["wall_time_s"]) < 10:
        pytest.skip("this machine is so fast that the cell is too short to tell")
    assert float(row["unaccounted_time_s"]) < 0.02 * float(row["wall_time_s"])
