"""Repositories made of this one as it lies here, and what a machine adds to a clone of one."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.builders.shared import ROOT

WHO = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
SETTINGS = {
    "uploadpack.allowAnySHA1InWant": "true",  # as on GitHub
    "core.compression": "0",  # to be cloned in a moment
    "pack.window": "0",
    "gc.auto": "0",
}
RELEASE = "v0.0.1"
MATRIX = """\
name: {name}
data: {{corpus: pydoc}}
train: {{steps: 4, batch_size: 2, block_size: 8}}
eval: {{every: 4, train_windows: 4}}
matrix:
  model: [nanogpt]
  optimizer: {optimizers}
  device: [{device}]
  seed: [1, 2]
"""
CLAIM = (
    "claim: {baseline: {model: nanogpt, optimizer: adamw}, metric: val_loss_final, margin: 0.5}\n"
)
TINY = {  # matrices of minutes as ones of seconds
    "cpu": MATRIX.format(name="cpu", optimizers="[adamw, sgd]", device="cpu") + CLAIM,
    "ab": MATRIX.format(name="ab", optimizers="[adamw]", device="cpu"),
    "gpu": MATRIX.format(name="gpu", optimizers="[adamw, sgd]", device="cuda") + CLAIM,
}


def git(where: Path, *arguments: str) -> str:
    command = ["git", *WHO, *arguments]
    return subprocess.run(command, cwd=where, check=True, stdout=subprocess.PIPE, text=True).stdout


def make_repository(place: Path, names: Iterable[str] = ()) -> Path:
    """Two commits on main: this program as it is, released; then with small matrices.

    Given names, of these files alone.
    """
    place.mkdir(parents=True)
    for name in names or _ours():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, place / name)
    git(place, "init", "--quiet", "--initial-branch", "main")
    for key, value in SETTINGS.items():
        git(place, "config", key, value)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message=the program")
    git(place, "tag", RELEASE)
    for name, text in TINY.items():
        file = place / "bench" / "matrix" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message=small matrices")
    return place


def _ours() -> list[str]:
    """Every file of this repository as it lies here, also one that is not committed yet."""
    listed = git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    return [name for name in listed.split("\0") if name and (ROOT / name).exists()]


def link_wheels(clone: Path) -> None:
    """What images are made of where no index is reached; git does not track it."""
    wheels = ROOT / "docker" / "wheels"
    if wheels.exists():
        shutil.copytree(wheels, clone / "docker" / "wheels", copy_function=_link_or_copy)


def lend_packages(clone: Path) -> None:
    """A .venv that is ready: its programs are the Python of these tests, on the clone's code."""
    programs = clone / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, command in {"python": "", "bench": "-m bench"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {command} "$@"\n')
        (programs / name).chmod(0o755)
    for stamp in (".base", ".worker", ".dev"):  # in this order: make compares their times
        (clone / ".venv" / stamp).touch()


def _link_or_copy(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk
        shutil.copy2(source, target)
