"""This program in a repository of its own, whose revisions can be compared."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.builders.gpu_cell import PROBE
from tests.builders.shared import ROOT, write_tiny_matrix

LOCAL = ("--runtime", "local", "--worker-python", sys.executable)
# An older version: it takes the first GPU that it sees, and knows no --gpus.
WITHOUT_GPUS = """
from bench.run.gpus import GpuRequest
GpuRequest.free_on = lambda self, machine, *others: machine
GpusOption = Annotated[str, typer.Option("--other")]
"""
OWN_FAULT_ON_A_GPU = """

def open_device(cell, found=CellRun._open_device):
    assert cell.spec.device == "cpu", "there is none"
    return found(cell)


CellRun._open_device = open_device
"""


def git(repository: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    command = ["git", "-C", str(repository), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def append(repository: Path, file: str, text: str) -> None:
    path = repository / "bench" / file
    path.write_text(path.read_text() + text)


def make_repository(place: Path) -> Path:
    """This program as it is, in a repository of its own: v1, and later versions with a fault."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "bench", place / "bench", ignore=ignored)
    (place / "bench" / "worker" / "gpu_probe.py").write_text(PROBE)  # as if torch reached a GPU
    append(place, "worker/cell.py", OWN_FAULT_ON_A_GPU)
    (place / ".gitignore").write_text("__pycache__/\nresults/\n")
    git(place, "init", "--quiet", "--initial-branch", "main")
    faults = {
        "v1": None,
        "crashing": ("worker/training.py", "\nTrainer.step = None\n"),
        "old": ("cli/__init__.py", "\nraise SystemExit('no such option: --only')\n"),
        "ungpus": ("cli/common.py", WITHOUT_GPUS),
    }
    for tag, fault in faults.items():
        git(place, "checkout", "--quiet", "-B", "work", *(["v1"] if fault else []))
        if fault:
            append(place, *fault)
        git(place, "add", "--all")
        git(place, "commit", "--quiet", "--message", tag)
        git(place, "tag", tag)
    git(place, "checkout", "--quiet", "v1")
    return place


def one_arm(folder: Path, seeds: int) -> Path:
    matrix = write_tiny_matrix(folder)
    text = matrix.read_text().replace("[adamw, truemuon]", "[adamw]")
    matrix.write_text(text.replace("seed: [1, 2]", f"seed: {list(range(1, seeds + 1))}"))
    return matrix


def checkouts(repository: Path) -> int:
    return len(git(repository, "worktree", "list").splitlines())
