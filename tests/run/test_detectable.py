"""What the seeds of a matrix will find, before they run."""

import math
import re
from pathlib import Path

import pytest

from bench.statistics.power import difference_found, power
from tests.builders.shared import bench

MATRIX = """
name: planned
data: {corpus: pydoc}
train: {steps: 10}
matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], seed: [1, 2, 3]}
claim:
  baseline: {model: nanogpt, optimizer: adamw}
  metric: val_loss_final
  margin: 0.01
"""


def told(folder: Path, *more: str, sd: str = "0.0015") -> str:
    file = folder / "matrix.yaml"
    file.write_text(MATRIX + "".join(more))
    answer = bench("plan", file, "--runtime", "local", "--sd", sd, "--out", folder / "none")
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


def figures(text: str) -> dict[int, float]:
    return {int(n): float(found) for found, n in re.findall(r"([\d.e-]+) on, by (\d+) seeds", text)}


def test_a_plan_tells_what_its_seeds_find(tmp_path):
    text = told(tmp_path)
    assert "0.0015 (paired differences), at the first look at 3 comparisons" in text
    found = figures(text)
    assert [*found] == [3, 6, 12]
    for n, difference in found.items():
        assert power(n, 0.0015, difference, 0.025 / 3) == pytest.approx(0.8, abs=0.05)  # 2 digits


@pytest.mark.slow
def test_one_deviation_of_all_finds_more_and_further_claims_less(tmp_path):
    own = figures(told(tmp_path))
    pooled = told(tmp_path, "  variance: pooled\n")
    assert "0.0015 (one configuration, pooled)" in pooled
    assert figures(pooled)[3] < own[3]
    also = told(tmp_path, "  also: [{metric: train_time_s, margin: 0.05}]\n")
    assert "at 6 comparisons" in also
    assert figures(also)[3] > own[3]


@pytest.mark.parametrize("sd", ["0", "-1", "nan", "inf"])
def test_a_deviation_that_cannot_be_is_refused(tmp_path, sd):
    file = tmp_path / "matrix.yaml"
    file.write_text(MATRIX)
    answer = bench("plan", file, "--runtime", "local", f"--sd={sd}")
    assert answer.returncode == 2
    assert "write a standard deviation above 0" in answer.stderr


@pytest.mark.parametrize("n", [2, 3, 5, 50])
def test_a_difference_is_found_with_the_promised_chance(n):
    found = difference_found(n, 2.0, 0.01)
    assert power(n, 2.0, found, 0.01) == pytest.approx(0.8)
    assert math.isfinite(found)
