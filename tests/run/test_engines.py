"""A whole run under every engine. What goes wrong in runs is tested under the first of them."""

from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.records.rows import read_table
from tests.builders.shared import bench


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
