"""`bench original`: the published comparison, as a person makes it in a folder with input.txt."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench.cli.original import MATRIX, STEPS, beside, derived
from bench.matrix.expansion import load_matrix
from bench.records.rows import read_table
from tests.builders.shared import ROOT


def original(where: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", "original", *options],
        cwd=where,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_its_cells_are_those_of_the_shipped_matrix(tmp_path: Path) -> None:
    file = tmp_path / "matrix.yaml"
    file.write_text(derived("comparison-cpu", "cpu", STEPS, 5))
    shipped = [cell.spec for cell in load_matrix(MATRIX).cells]
    planned = [cell.spec for cell in load_matrix(file).cells]
    assert {spec.run_id for spec in planned} == {
        spec.run_id for spec in shipped if spec.device == "cpu"
    }


def test_without_its_text_it_says_where_that_is(tmp_path: Path) -> None:
    answer = original(tmp_path)
    assert answer.returncode == 2
    assert "there is no input.txt in this folder" in answer.stderr
    assert "/tinyshakespeare/input.txt as input.txt" in answer.stderr


def test_seven_figures_stand_beside_the_published_ones() -> None:
    published = ROOT / "results" / "original-cpu" / "report" / "summary.csv"
    lines = list(beside(read_table(published), "cpu", STEPS))
    table = {line[:22].strip(): line[22:].split() for line in lines[2:9]}
    assert table["validation loss"] == ["1.7285", "1.7326", "1.6756", "1.6858"]
    assert table["perplexity"] == ["5.63", "5.66", "5.34", "5.40"]
    assert table["parameters, M"] == ["0.21", "0.21", "0.28", "0.28"]
    assert [row[0] for row in table.values()] == [
        *("1.7285", "5.63", "0.21", "0.0508", "0.0060", "0.03", "26.85")
    ]
    assert [row[2] for row in table.values()] == [
        *("1.6756", "5.34", "0.28", "0.1264", "0.0081", "0.01", "19.21")
    ]
    assert lines[9] == "Here: means over 5 seeds (times: 2), after 10,000 iterations."
    assert "tinyshakespeare" not in lines[-1]


def test_what_was_not_measured_is_not_available() -> None:
    lines = list(beside([], "cuda", 20))
    assert lines[2].split() == ["validation", "loss", "1.7285", "n/a", "1.6756", "n/a"]


@pytest.mark.slow
def test_the_whole_of_it_in_a_folder_with_a_text(tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    answer = original(tmp_path, "--steps", "20", "--seeds", "1", "--runtime", "local")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "after 20 iterations" in answer.stdout
    assert "input.txt is another text than tinyshakespeare" in answer.stdout
    picture = tmp_path / "comparison_graph.png"
    made = tmp_path / "results" / "comparison-cpu-20-steps" / "report" / picture.name
    assert picture.read_bytes() == made.read_bytes()
