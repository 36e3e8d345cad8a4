"""How much of a GPU large cells use: of boards whose datasheet is known, and of this very one."""

import csv

import pytest

from bench.records.columns import RUN_COLUMNS
from bench.records.rows import Row
from tests.gpu import large

ROW: Row = {
    "status": "ok",
    "model": "gpt2",
    "gpu_name": "NVIDIA H100 80GB HBM3",
    "flops_per_token": "1e9",
    "tokens_per_s": "494700",
}


@pytest.mark.parametrize("board", ["NVIDIA H100 80GB HBM3", "NVIDIA H200"])
def test_a_known_board_is_held_to_its_datasheet(board):
    line = large.utilisation({**ROW, "gpu_name": board}, rate_tflops=700.0)
    assert line["mfu_datasheet_pct"] == pytest.approx(50)
    assert line["mfu_measured_pct"] == pytest.approx(100 * 494.7 / 700)


@pytest.mark.parametrize("board", ["Stub GPU", "2 x NVIDIA H200", ""])
def test_of_another_board_nothing_is_guessed(board):
    assert large.utilisation({**ROW, "gpu_name": board}, 700.0)["mfu_datasheet_pct"] == ""


def test_rows_that_ended_well_become_lines(device, tmp_path):
    row = dict.fromkeys(RUN_COLUMNS, "") | ROW
    with (tmp_path / "runs.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, row)
        writer.writeheader()
        writer.writerows([row, {**row, "status": "oom"}])
    large.main(str(tmp_path / "out.csv"), str(tmp_path), device=device, side=64)
    with (tmp_path / "out.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    assert tuple(line) == large.HEAD
    assert float(line["measured_tflops"]) > 0
