"""A program of a test in a cell's own container, in place of the worker."""

from typing import Any

import pytest

from bench.launch import container
from bench.launch.container import ContainerLauncher, run_argv
from bench.launch.engine import Engine
from bench.launch.job import Job, Stop, Watcher
from bench.measure.host import FindProcesses


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
