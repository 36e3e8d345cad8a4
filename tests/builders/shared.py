"""What tests of every room share: the commands as a person types them, a tiny matrix, needs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]

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


def write_tiny_matrix(folder: Path) -> Path:
    """Four cells of a very small model on a text of 4,000 characters."""
    text = folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    file = folder / "tiny.yaml"
    file.write_text(TINY + f"data: {{corpus: {text}}}\n")
    return file


def bench(*arguments: str | Path, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
    """`python -m bench ...` as a person types it."""
    command = [sys.executable, "-m", "bench", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=timeout_s, check=False
    )


def without(why: str) -> NoReturn:
    """Skip what cannot be tested here, or fail where everything must be."""
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(f"REQUIRE_ALL is set, and {why}")
    pytest.skip(why)


def need_cpus(count: int) -> None:
    """For cells at once, each on CPUs of its own."""
    if len(os.sched_getaffinity(0)) < count:
        without(f"{count} cells at once need {count} CPUs")


# Where runs are is chosen for speed; all else is as it was typed.
BENCH = """\
#!/bin/sh
case "$1" in plan|run|check|doctor) set -- "$@" --runtime local ;; esac
exec {python} -m bench "$@"
"""


def type_in(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """The commands of a page as a person types them, in a folder that has a `.venv/bin/bench`."""
    program = folder / ".venv" / "bin" / "bench"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(BENCH.format(python=sys.executable))
    program.chmod(0o755)
    return subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
