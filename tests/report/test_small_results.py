"""Results so small, or so alike, that a picture has nothing to scale by: no warning comes of them.

Warnings are errors in all tests; a person's own setting makes them so as well.
"""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from bench.border.spec import CellFiles
from bench.report.build import build_report
from tests.builders.results import Results

CLAIM = """\
name: small
claim: {baseline: {model: gpt, optimizer: adamw}, metric: METRIC, margin: 0.01}
"""
FOUR = [(model, optimizer) for model in ("gpt", "kimi") for optimizer in ("adamw", "muon")]
STEPS = "step,steps,time_ms\n1,1,5.0\n"
SAMPLES = """\
time_s,gpu_own_mib,gpu_used_mib,gpu_power_instant_w,gpu_power_average_w,sm_clock_mhz
0.0,5,5,5,5,5
0.0,5,5,5,5,5
"""
FIGURES = ("val_loss_final", "train_time_s", "infer_time_ms_p50", "host_rss_peak_mib")


def cell(folder: Results, model="gpt", optimizer="adamw", seed=1, points=None, **fields) -> None:
    """A cell of one step, with its raw step time and two readings of a GPU at one moment."""
    run_id = folder.planned(model=model, optimizer=optimizer, seed=seed)
    folder.ended(run_id, **{"steps": 1, "tokens": 10, "val_loss_final": 2.0} | fields)
    points = [(0, 0.0, 4.0), (1, 0.05, 2.0)] if points is None else points
    folder.curve(run_id, points, expert_load_max=1.0, router_entropy=0.0)
    files = CellFiles(folder.path / "cells" / f"{run_id}-1")
    files.folder.mkdir(parents=True)
    files.steps.write_text(STEPS)
    files.samples.write_text(SAMPLES)


def one_cell(folder: Results) -> None:
    cell(folder)


def one_evaluation(folder: Results) -> None:
    cell(folder, points=[(1, 0.05, 2.0)])


def no_step(folder: Results) -> None:
    cell(folder, points=[(0, 0.0, 4.0)], steps=0, tokens=0)


def one_seed(folder: Results) -> None:
    for arm in FOUR:
        cell(folder, *arm)


def one_arm(folder: Results) -> None:
    for seed in (1, 2):
        cell(folder, seed=seed)


def equal_losses(folder: Results) -> None:
    for arm in FOUR:
        for seed in range(1, 6):
            cell(folder, *arm, seed)


def losses_but_for_rounding(folder: Results) -> None:
    for seed in range(1, 6):
        cell(folder, seed=seed)
        cell(folder, optimizer="muon", seed=seed, val_loss_final=2.0000000000000004)


def zeros(folder: Results) -> None:
    for arm in FOUR:
        for seed in (1, 2):
            cell(
                folder,
                *arm,
                seed,
                points=[(0, 0.0, 0.0), (1, 0.0, 0.0)],
                **dict.fromkeys(FIGURES, 0.0),
            )


SMALL = (
    *(one_cell, one_evaluation, no_step, one_seed, one_arm),
    *(equal_losses, losses_but_for_rounding, zeros),
)


def made(folder: Results, fill: Callable[[Results], None], metric: str) -> Results:
    folder.path.mkdir()
    fill(folder)
    (folder.write() / "matrix.yaml").write_text(CLAIM.replace("METRIC", metric))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["val_loss_final", "train_time_s"])
@pytest.mark.parametrize("fill", SMALL, ids=lambda fill: fill.__name__)
def test_a_report_of_little_warns_of_nothing(fill, metric, tmp_path):
    folder = made(Results(tmp_path / "small"), fill, metric)
    build_report([folder.path], folder.path / "report")
    drawn = {path.stem for path in (folder.path / "report").glob("*.png")}
    assert {"step_times", "gpu_over_time", "experts", "comparison_graph"} <= drawn
    # One evaluation is a point, and an axis of a point would be an empty picture.
    assert ("loss_steps" in drawn) == (fill not in {one_evaluation, no_step})


@pytest.mark.slow
def test_the_command_reports_where_warnings_are_errors(tmp_path):
    folder = made(Results(tmp_path / "small"), one_cell, "val_loss_final")
    answer = subprocess.run(
        [sys.executable, "-m", "bench", "report", folder.path],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert (folder.path / "report" / "index.html").is_file()
