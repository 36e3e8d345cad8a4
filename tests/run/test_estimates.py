"""What is expected of cells on token files, before any has run."""

from pathlib import Path

import pytest

from bench.matrix.expansion import load_matrix
from bench.run.estimate import Estimate, estimate_arms
from tests.builders.shared import TINY
from tests.builders.tokenfiles import little


def expected(folder: Path, n_train: int, n_val: int, n_test: int = 0) -> Estimate:
    for token, (split, count) in enumerate((("train", n_train), ("val", n_val), ("test", n_test))):
        (folder / f"{split}.bin").write_bytes(little([token] * count))
    test = ", test: [test.bin]" if n_test else ""
    file = folder / "matrix.yaml"
    tokens = f"{{train: [train.bin], val: [val.bin]{test}}}"
    file.write_text(TINY + f"data: {{tokens: {tokens}, vocab_size: 60}}\n")
    matrix = load_matrix(file)
    (found, *_) = estimate_arms([matrix.cells[0].spec], matrix.find_corpus(), []).values()
    assert found.basis == "rough"
    return found


def test_mapped_files_cost_no_memory(tmp_path: Path) -> None:
    few, many = expected(tmp_path, 1_000, 1_000), expected(tmp_path, 2_000_000, 1_000)
    assert many.memory_mib == few.memory_mib


def test_time_follows_what_is_evaluated(tmp_path: Path) -> None:
    """Three evaluations of the validation split, and one of the test split."""
    few = expected(tmp_path, 1_000, 10_000)
    assert few.wall_s is not None
    more = expected(tmp_path, 1_000, 20_000).wall_s
    tested = expected(tmp_path, 1_000, 10_000, 30_000).wall_s
    assert more == pytest.approx(tested)
    assert more > few.wall_s
    assert expected(tmp_path, 50_000, 10_000).wall_s == few.wall_s
