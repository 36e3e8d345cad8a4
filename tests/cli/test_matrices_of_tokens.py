"""Matrices of token files that come along, made small: from a text, or shards, to a verdict."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.matrix.packaged import FOLDER
from bench.records.rows import Row, read_table
from tests.builders.shared import ROOT
from tests.builders.tokenfiles import shard

TEXT = "the quick brown fox jümps over the lazy dog, isn't it?\n" * 200


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    (tmp_path / "input.txt").write_text(TEXT, encoding="utf-8")
    return tmp_path


def bench(desk: Path, *arguments: str) -> str:
    own = {"BENCH_CACHE": str(desk / "cache"), "PYTHONPATH": str(ROOT)}
    answer = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=desk,
        env=os.environ | own,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


def small(name: str, desk: Path, **changed: dict[str, Any]) -> Path:
    """A matrix that comes along, with some settings changed, in the desk's folder."""
    content = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    for section, settings in changed.items():
        content[section] = {**content[section], **settings}
    path = desk / f"{name}.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def rows_of(desk: Path, name: str) -> list[Row]:
    return read_table(desk / "results" / name / "runs.csv")


@pytest.mark.slow
def test_a_text_becomes_tokens_and_these_a_verdict_in_bytes(desk: Path) -> None:
    bench(desk, "tokenise", "input.txt", "--vocab", "300", "--out", "tokens")
    matrix = small(
        "small-bpe",
        desk,
        train={"steps": 6, "batch_size": 2, "block_size": 16, "warmup_steps": 2},
        models={"of-today": {"base": "nanogpt", "n_embd": 16, "n_layer": 1, "n_head": 2}},
        matrix={"seed": [1, 2]},
    )
    bench(desk, "run", str(matrix), "--runtime", "local", "--report")
    told = json.loads((desk / "tokens" / "tokens.json").read_text())["splits"]["val"]
    rows = rows_of(desk, "small-bpe")
    assert [row["status"] for row in rows] == ["ok"] * 4
    for row in rows:
        nats = float(row["val_loss_final"])
        bits = nats / math.log(2) * told["tokens"] / told["bytes"]
        assert float(row["bits_per_byte"]) == pytest.approx(bits, rel=1e-12)
        assert (row["bits_per_char"], row["tokens_on"]) == ("", "host")
        assert float(row["perplexity"]) == pytest.approx(math.exp(nats))


@pytest.mark.slow
def test_the_shape_of_gpt2_trains_on_shards(desk: Path) -> None:
    place = desk / "fineweb10B"
    place.mkdir()
    for name, start in (("train_000001", 1), ("train_000002", 2), ("val_000000", 3)):
        # 512 of its 50,257 ids: bfloat16 products of a large head take minutes on most CPUs.
        ids = [(start + step * step) % 512 for step in range(2_000)]
        (place / f"fineweb_{name}.bin").write_bytes(shard(ids))
    shape = yaml.safe_load((FOLDER / "gpt2-124m.yaml").read_text())["models"]["gpt2"]
    matrix = small(
        "gpt2-124m",
        desk,
        data={"vocab_size": 512},
        train={"steps": 6, "batch_size": 8, "accumulate": 4, "block_size": 32, "warmup_steps": 2}
        | {"compile": False},
        eval={"every": 3, "train_windows": 4},
        matrix={"seed": [1], "device": ["cpu"]},
        models={"gpt2": {**shape, "n_embd": 16, "n_layer": 2, "n_head": 2}},
        limits={"checkpoint_every": "2 steps", "memory_gib": 2, "cpus": 1},
    )
    bench(desk, "run", str(matrix), "--runtime", "local")
    rows = rows_of(desk, "gpt2-124m")
    assert [row["status"] for row in rows] == ["ok"] * 2
    assert {row["tokens"] for row in rows} == {str(6 * 8 * 32)}
    assert {row["bits_per_byte"] for row in rows} == {""}  # nothing tells what the ids stand for
    assert not list((desk / "results").glob("*/cells/*/checkpoints"))


def test_paths_of_a_matrix_that_comes_along_start_at_the_current_folder(desk: Path) -> None:
    for name in ("train", "val"):
        (desk / "tokens").mkdir(exist_ok=True)
        ids = [step % 300 for step in range(500)]
        (desk / "tokens" / f"{name}.bin").write_bytes(shard(ids))
    with pytest.raises(AssertionError, match=r"vocab_size is needed with data\.tokens, unless"):
        bench(desk, "plan", "small-bpe")
    with pytest.raises(AssertionError, match=r"in one that comes along at the current folder"):
        bench(desk, "plan", "gpt2-124m")
