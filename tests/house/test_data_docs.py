"""docs/data.md: its matrix runs, and what it says of messages is what they say."""

import re
from pathlib import Path

import pytest
import yaml

from bench.matrix.expansion import load_matrix
from bench.records.rows import read_table
from tests.builders.shared import ROOT, bench
from tests.builders.tokenfiles import shard

PAGE = (ROOT / "docs" / "data.md").read_text()
(MATRIX,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    """Its matrix beside files like those that it names."""
    for first, name in enumerate(("train_000001", "train_000002", "val_000000")):
        ids = [(first + n * 7_919) % 50_257 for n in range(2_000)]
        (tmp_path / f"fineweb_{name}.bin").write_bytes(shard(ids))
    file = tmp_path / "tokens.yaml"
    file.write_text(MATRIX)
    return file


def test_its_matrix_is_sound(matrix: Path) -> None:
    corpus = load_matrix(matrix).find_corpus()
    assert corpus is not None
    assert corpus.size == "6,000 tokens in 3 files (train 4,000, val 2,000), 50,257 ids"


@pytest.mark.slow
def test_its_matrix_runs(matrix: Path, tmp_path: Path) -> None:
    """Shortened in steps, width and seeds."""
    content = yaml.safe_load(MATRIX)
    content["train"] = {"steps": 2, "batch_size": 2, "block_size": 64}
    content["matrix"] |= {"model": ["small"], "seed": [1]}
    content["models"] = {"small": {"base": "nanogpt", "n_embd": 8, "n_layer": 1, "n_head": 2}}
    del content["claim"]
    matrix.write_text(yaml.safe_dump(content))
    answer = bench("run", matrix, "--runtime", "local", "--out", tmp_path / "results")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = read_table(tmp_path / "results" / "runs.csv")
    assert {row["corpus"] for row in rows} == {"fineweb_train_000001.bin and 1 more"}
