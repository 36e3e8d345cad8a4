"""The way from a machine with a GPU to published results, gone on a CPU in two minutes."""

import csv
import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from bench.records.rows import read_table
from tests.builders.shared import ROOT

# A Python that measures on a CPU what run.sh's parts measure on a GPU, and runs no tests.
PYTHON = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
if words[:2] == ["-m", "pytest"]:
    sys.exit(0)
sys.path.insert(0, os.getcwd())
from tests.builders.recorded import recorded_graphs
from tests.gpu import kernels, large, speed
few = speed.Sizes(rounds=2, launched=1, replayed=2, together=(1, 2), compiled=())
with recorded_graphs():
    if words[1] == "tests.gpu.speed":
        speed.main(words[2], "cpu", few)
    elif words[1] == "tests.gpu.kernels":
        kernels.main(device="cpu", steps=2)
    else:
        large.main(*words[2:], device="cpu", side=64)
"""
# Of two programs: the one above imports torch, the other one is what cells and `bench` run under.
CHOOSING = f"""#!/bin/sh
case "$*" in
"-m pytest"* | "-m tests.gpu."*) exec {sys.executable} "$MEASURING" "$@" ;;
*) exec {sys.executable} "$@" ;;
esac
"""
SMALL = (
    (r"\[cuda\]", "[cpu]"),
    (r", graph_steps: \d+|, compile: true|, matmul_precision: tf32", ""),
    (r"\b(steps|every): \d+", r"\1: 10"),
    (r"seed: \[1, 2, 3\]", "seed: [1]"),
    (r"protocol: full", "train_windows: 4"),
    (r"(batch_size|n_layer|n_head): \d+", r"\1: 2"),
    (r"(block_size|n_embd|expert_hidden): \d+", r"\1: 16"),
)
PARTS = ("tests", "original", "speed", "formats", "large")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """This program beside a text, with small matrices."""
    desk = tmp_path / "desk"
    for name in ("bench", "tests"):
        shutil.copytree(ROOT / name, desk / name, ignore=shutil.ignore_patterns("__pycache__"))
    for matrix in (desk / "tests" / "gpu").glob("*.yaml"):
        text = matrix.read_text()
        for pattern, small in SMALL:
            text = re.sub(pattern, small, text)
        matrix.write_text(text)
    (desk / "input.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    for name, text in (("python", CHOOSING), ("measuring", PYTHON)):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return desk


def typed(desk: Path, *words: str) -> str:
    top = desk.parent
    variables = {"PYTHON": str(top / "python"), "MEASURING": str(top / "measuring")}
    ran = subprocess.run(
        words,
        cwd=desk,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.mark.slow
def test_what_the_parts_leave_becomes_published_results(desk):
    from bench.report.build import build_report  # a machine with a GPU may lack what it needs

    typed(desk, "tests/gpu/run.sh", "brought", *PARTS)
    said = typed(desk, "tests/gpu/publish.sh", "brought", "h100")
    left_out = [line for line in said.splitlines() if line.startswith("publish:")]
    assert left_out == [f"publish: no container/places.csv in {desk}/brought: left out"]

    original, speed = (desk / "results" / f"h100-{name}" for name in ("original", "speed"))
    folders = [speed / name for name in ("bfloat16", "float32", "large", "large-topk", "tf32")]
    assert [len(read_table(folder / "runs.csv")) for folder in (original, *folders)] == [
        *(4, 2, 2, 2, 1, 2)
    ]
    for results, parts in ((original, [original]), (speed, folders)):
        build_report(parts, results / "again")
        for name in ("summary.csv", "report.md"):
            again = (results / "again" / name).read_text()
            assert (results / "report" / name).read_text() == again
        assert (results / "environment.txt").exists()
        assert not any(path.name.startswith(".") for path in results.rglob("*"))
        files = (file for file in results.rglob("*") if file.is_file())
        told = [str(file) for file in files if str(desk).encode() in file.read_bytes()]
        assert told == []  # nothing of where they were made
    with (speed / "speed.csv").open(newline="") as file:
        assert {line["model"] for line in csv.DictReader(file)} == {"", "nanogpt", "nanokimi"}
    assert (speed / "kernels.txt").read_text().startswith("nanogpt+adamw: ")
    with (speed / "large" / "large.csv").open(newline="") as file:
        models = [line["model"] for line in csv.DictReader(file)]
    assert models == ["gpt2", "kimi-2-of-2", "kimi-2-of-8"]
    with tarfile.open(desk / "brought" / "tests.tar.gz") as tests:
        assert "tests/log.txt" in tests.getnames()
