"""A whole run under every engine. What goes wrong in runs is tested under the first of them."""

from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.records.rows import read_table
from tests.builders.shared import TINY, bench
from tests.builders.tokenfiles import little, shard


@pytest.mark.slow
def test_a_run_in_each_engine_leaves_rows_of_the_same_image(
    each_engine: Engine, tiny_matrix: Path, tmp_path: Path
) -> None:
    words = ("--runtime", each_engine.name, "--out", tmp_path / "results", "--only", "seed=1")
    answer = bench("run", tiny_matrix, *words)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = read_table(tmp_path / "results" / "runs.csv")
    assert [row["status"] for row in rows] == ["ok"] * 2
    for row in rows:
        assert row["runtime"] == each_engine.name
        assert row["image_id"] == row["env_id"]
        assert row["image_id"].startswith("sha256:")
        assert (row["cpus_enforced"], row["memory_limit_enforced"]) == ("true", "true")
        assert float(row["cgroup_mem_peak_mib"]) > 0


@pytest.fixture
def token_matrix(tmp_path: Path) -> Path:
    """Four cells on files of tokens: two to train on, whose names need care, one to validate."""
    ids = [n * 7 % 60 for n in range(400)]
    (tmp_path / "a,1.bin").write_bytes(shard(ids))
    (tmp_path / "a 2.bin").write_bytes(little(ids[::-1]))
    (tmp_path / "val.bin").write_bytes(shard(ids[:100]))
    file = tmp_path / "tokens.yaml"
    tokens = "{train: [a*.bin], val: [val.bin]}"
    file.write_text(TINY + f"data: {{tokens: {tokens}, vocab_size: 60}}\n")
    return file


@pytest.mark.slow
def test_token_files_give_the_same_losses_in_each_engine_as_in_a_local_process(
    each_engine: Engine, token_matrix: Path, tmp_path: Path
) -> None:
    found = {}
    for runtime in ("local", each_engine.name):
        out = tmp_path / runtime
        words = ("--runtime", runtime, "--out", out, "--only", "seed=1")
        answer = bench("run", token_matrix, *words)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        rows = read_table(out / "runs.csv")
        assert [row["status"] for row in rows] == ["ok"] * 2
        told = ("run_id", "corpus_sha256", "data_order_hash", "init_hash", "tokens_on", "corpus")
        found[runtime] = [[row[name] for name in told] for row in rows]
        losses = [float(row["val_loss_final"]) for row in rows]
        found[f"losses of {runtime}"] = losses
    assert found["local"] == found[each_engine.name]
    assert found["local"][0][4:] == ["host", "a 2.bin and 1 more"]
    by_engine = found[f"losses of {each_engine.name}"]
    assert by_engine == pytest.approx(found["losses of local"], rel=1e-5)  # perhaps another torch
