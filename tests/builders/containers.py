"""Engines with the image of cells; a program of a test in a cell's container, for the worker."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from bench.launch import container
from bench.launch.container import ContainerLauncher, run_argv
from bench.launch.engine import Engine
from bench.launch.image import find_image
from bench.launch.job import Job, Stop, Watcher
from bench.measure.host import FindProcesses
from tests.builders.shared import bench, without

ENGINES = ("docker", "podman")
LOCK = Path(tempfile.gettempdir()) / "bench-images.lock"  # test processes start at once


def with_image(name: str) -> Engine:
    """An engine that answers, with the CPU image: copied from the other one, or built."""
    engine = Engine(name)
    with FileLock(LOCK):
        if find_image(engine, "cpu") is None:
            _copy(engine)
        built = bench("image", "cpu", "--runtime", name, timeout_s=900)
    if built.returncode != 0:
        without(f"no CPU image in {name}: {built.stderr.strip()[-300:]}")
    return engine


def _copy(to: Engine) -> None:
    """The image of another engine that has it: a minute less than to build it anew."""
    for other in map(Engine, ENGINES):
        if other != to and other.why_not() is None and (found := find_image(other, "cpu")):
            save = subprocess.Popen([other.name, "save", found[0]], stdout=subprocess.PIPE)
            subprocess.run([to.name, "load"], stdin=save.stdout, check=True, capture_output=True)
            assert save.wait() == 0


class Heard:
    """Watches a cell by noting what it says."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def started(self, find: FindProcesses) -> None:
        self.find = find

    def event(self, event: dict[str, Any]) -> None:
        self.events.append(event)


def run_inside(
    engine: Engine,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    text: str,
    watcher: Watcher | None = None,
    stop: Stop | None = None,
) -> tuple[ContainerLauncher, container.Exit]:
    """Run a Python text in the cell's own container instead of the worker."""

    def argv(*arguments: object) -> list[str]:
        command = run_argv(*arguments)  # type: ignore[arg-type]
        return [*command[: command.index("-m")], "-c", text]

    monkeypatch.setattr(container, "run_argv", argv)
    launcher = ContainerLauncher(engine)
    return launcher, launcher.run(job, watcher or Heard(), stop or Stop())


def give(folder: Path, owner: int) -> None:
    """Make a folder and all in it somebody else's."""
    if os.geteuid() != 0:
        without("only root can make files somebody else's")
    for path in (folder, *folder.rglob("*")):
        os.chown(path, owner, owner)
