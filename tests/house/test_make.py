"""What the Makefile's first targets say and select, with a pip and a bench that only note calls."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders.shared import ROOT

# A Python whose -m venv makes scripts: of itself, and a `bench` that prints what it is asked.
PYTHON = r"""#!/bin/sh
case "$*" in
  -c*) exit 0;;
  "-m venv"*)
    mkdir -p .venv/bin; cp "$0" .venv/bin/python
    printf '#!/bin/sh\necho bench "$@"\n' >.venv/bin/bench; chmod +x .venv/bin/bench;;
  "-m pip"*) echo "noise of pip $*"; echo "a warning" >&2; test ! -e pip-fails;;
esac
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in ("Makefile", "constraints.txt", "docker/constraints.txt", "pyproject.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "python3").write_text(PYTHON)
    (tmp_path / "python3").chmod(0o755)
    return tmp_path


def make(where: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["make", *arguments, "PYTHON=./python3", "RUNTIME=local"],
        cwd=where,
        env={key: os.environ[key] for key in ("PATH", "HOME") if key in os.environ},
        capture_output=True,
        text=True,
        check=False,
    )


def test_setup_tells_sizes_first_is_quiet_and_ends_with_what_to_type(clone: Path) -> None:
    answer = make(clone, "setup")
    assert (answer.returncode, answer.stderr) == (0, "")
    base, engine, torch, ready = answer.stdout.splitlines()
    assert "160 MB" in base
    assert ".venv/setup.log" in base
    assert "no container engine in use" in engine
    assert "3 GB" in torch
    assert "set TORCH_INDEX to the index of PyTorch's CPU builds" in torch
    assert ready.endswith("for example: .venv/bin/bench plan bench/matrix/cpu.yaml")
    log = (clone / ".venv" / "setup.log").read_text()
    assert "noise of pip" in log
    assert "a warning" in log


def test_setup_takes_torch_from_the_index_that_is_named(clone: Path) -> None:
    answer = make(clone, "setup", "TORCH_INDEX=https://example.org/cpu")
    assert "It is from TORCH_INDEX=https://example.org/cpu" in answer.stdout
    log = (clone / ".venv" / "setup.log").read_text()
    assert "--index-url https://example.org/cpu torch" in log


def test_a_setup_that_fails_shows_the_end_of_its_log_and_is_done_again(clone: Path) -> None:
    (clone / "pip-fails").touch()
    answer = make(clone, "setup")
    assert answer.returncode == 2
    assert "a warning" in answer.stderr
    assert "error: pip failed. All it said: .venv/setup.log" in answer.stderr
    (clone / "pip-fails").unlink()
    assert make(clone, "setup").returncode == 0


@pytest.mark.parametrize(("target", "device"), [("bench-cpu", "cpu"), ("bench-gpu", "cuda")])
def test_each_target_runs_the_cells_of_its_device(clone: Path, target: str, device: str) -> None:
    answer = make(clone, target, "MATRIX=bench/matrix/original.yaml")
    last = answer.stdout.splitlines()[-1]
    assert last.startswith(f"bench run bench/matrix/original.yaml --only device={device} ")


def test_original_passes_on_what_it_is_given(clone: Path) -> None:
    refused = make(clone, "original")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "there is no input.txt here" in refused.stderr
    (clone / "input.txt").touch()
    last = make(clone, "original").stdout.splitlines()[-1]
    assert last == "bench original --device cpu --runtime local --jobs auto"
    answer = make(clone, "original", "DEVICE=cuda", "STEPS=20", "SEEDS=1")
    given = "bench original --device cuda --steps 20 --seeds 1 --runtime local --jobs auto"
    assert answer.stdout.splitlines()[-1] == given
