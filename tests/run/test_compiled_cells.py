"""Real cells that compile: the second one finds everything compiled, and trains as the first."""

import shutil
from pathlib import Path

import pytest

from bench.records.cache import cache_folder
from bench.records.folder import ResultsFolder
from bench.records.rows import read_table
from tests.builders.shared import bench, without

pytestmark = pytest.mark.slow

MATRIX = """\
name: compiled
data: {corpus: pydoc}
train: {steps: 6, batch_size: 2, block_size: 8, step_timing: every, compile: true}
eval: {every: 6, train_windows: 4}
matrix: {model: [gpt, kimi], optimizer: [adamw], device: [cpu], seed: [1]}
models:
  gpt: {base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}
  kimi: {base: nanokimi, n_embd: 8, n_layer: 1, n_head: 2}
optimizers:
  plants: {class: plants:Plants, path: ./plants.py, lr: 0.01}
"""
PLANTS = """\
import os
from pathlib import Path
import torch

class Plants(torch.optim.SGD):
    def __init__(self, params, lr):
        super().__init__(params, lr)
        Path(os.environ["TORCHINDUCTOR_CACHE_DIR"], "planted.so").write_text("planted")
"""
# Notes each call with a file, as for each part of a model; unoptimised, which takes less time.
COMPILER = """\
#!/bin/sh
case "$*" in *.cpp*) echo "$*" >> "{log}" ;; esac
exec g++ "$@" -O0
"""


class Kept:
    """Runs of one matrix, with one cache, through a compiler that tells when it is called."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log, self.compiler = folder, folder / "log", folder / "compiler"
        self.matrix = folder / "compiled.yaml"
        self.matrix.write_text(MATRIX)
        (folder / "plants.py").write_text(PLANTS)
        self.compiler.write_text(COMPILER.format(log=self.log))
        self.compiler.chmod(0o755)

    def run(self, name: str) -> tuple[dict[str, str], dict[str, list[str]], int]:
        """Of each model what its cache was and its losses; how often the compiler was called."""
        self.log.write_text("")
        results = ResultsFolder(self.folder / name)
        words = ["run", self.matrix, "--out", results.path, "--runtime", "local"]
        ended = bench(*words, timeout_s=1200)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        assert list(results.cells.glob("*/compiled")) == []
        rows = {row["model"]: row for row in read_table(results.runs)}
        steps = {
            model: (results.path / rows[model]["log_path"]).with_name("steps.csv") for model in rows
        }
        losses = {
            model: [row["val_loss_final"], *(step["loss"] for step in read_table(steps[model]))]
            for model, row in rows.items()
        }
        caches = {model: row["compile_cache"] for model, row in rows.items()}
        return caches, losses, len(self.log.read_text().splitlines())


def test_warm_cells_compile_nothing_and_have_the_same_losses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("g++") is None:
        without("torch.compile needs g++")
    kept = Kept(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(kept.compiler))
    caches, losses, compiled = kept.run("cold")
    assert caches == {"gpt": "cold", "kimi": "cold"}
    assert compiled > 2
    left = tmp_path / "warm" / "cells" / "of-a-killed-runner-1" / "compiled"
    left.mkdir(parents=True)
    assert kept.run("warm") == ({"gpt": "warm", "kimi": "warm"}, losses, 0)

    kept.matrix.write_text(MATRIX.replace("[gpt, kimi]", "[gpt]").replace("[adamw]", "[plants]"))
    caches, _, compiled = kept.run("brought")
    assert (caches, compiled) == ({"gpt": "warm"}, 0)
    assert list((cache_folder() / "compiled").rglob("planted*")) == []
