"""What several tests share: a cache of their own, a tiny matrix, a container engine.

Where something is missing (an engine, a compiler, rights), the tests that need it skip and say so;
REQUIRE_ALL=1 makes that a failure.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from bench.launch.engine import Engine

ROOT = Path(__file__).parent.parent

TINY = """\
name: tiny
train: {steps: 4, batch_size: 2, block_size: 8}
eval: {every: 2, train_windows: 4}
matrix:
  model: [small]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1, 2]
models:
  small: {base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def write_tiny_matrix(folder: Path) -> Path:
    """Four cells of a very small model on a text of 4,000 characters."""
    text = folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    file = folder / "tiny.yaml"
    file.write_text(TINY + f"data: {{corpus: {text}}}\n")
    return file


@pytest.fixture
def tiny_matrix(tmp_path: Path) -> Path:
    return write_tiny_matrix(tmp_path)


def bench(*arguments: str | Path, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """`python -m bench ...` as a person types it."""
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


@pytest.fixture(scope="session")
def engine() -> Engine:
    """An engine that answers and has the CPU image."""
    for name in ("docker", "podman"):
        if Engine(name).why_not() is None:
            built = bench("image", "cpu", "--runtime", name, timeout_s=900)
            if built.returncode == 0:
                return Engine(name)
            return without(f"no CPU image: {built.stderr.strip()[-300:]}")
    return without("no container engine answers")


@pytest.fixture(scope="session")
def gpu() -> None:
    """An NVIDIA GPU that torch computes on."""
    if shutil.which("nvidia-smi") is None:
        without("there is no nvidia-smi, and so no NVIDIA GPU")
    import torch

    if not torch.cuda.is_available():
        without("torch finds no usable GPU")


def without(why: str) -> NoReturn:
    """Skip what cannot be tested here, or fail where everything must be."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {why}")
    pytest.skip(why)


def need_cpus(count: int) -> None:
    """For cells at once, each on CPUs of its own."""
    if len(os.sched_getaffinity(0)) < count:
        without(f"{count} cells at once need {count} CPUs")


@pytest.fixture(params=["local", "container"])
def runtime(request: pytest.FixtureRequest) -> str:
    """Every way in which a cell can run; the container one only where an engine answers."""
    if request.param == "local":
        return "local"
    engine: Engine = request.getfixturevalue("engine")
    return engine.name
