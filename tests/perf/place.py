"""One place to run in, a container or this machine: real cells, and plain Python beside them."""

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.launch.choose import choose_launcher
from bench.launch.container import NOBODY, ContainerLauncher, container_name, run_argv
from bench.launch.job import Job, Launcher, Stop
from bench.launch.local import LocalLauncher, kill_group
from bench.launch.process import Command, supervise
from bench.launch.variables import local_environment
from bench.matrix.expansion import load_matrix
from bench.measure.host import FindProcesses
from bench.measure.machine import this_machine
from bench.records.corpora import find_corpus

Event = dict[str, Any]


@dataclass
class Ear:
    """Hears what runs say a JSON line at a time; stops it at the first one that is waited for."""

    awaited: Callable[[Event], bool]
    stop: Stop = field(default_factory=Stop)
    heard: Event | None = None
    at: float = 0.0  # of CLOCK_MONOTONIC

    def started(self, find: FindProcesses) -> None:
        """Nothing is read from its processes."""

    def event(self, event: Event) -> None:
        if self.heard is None and self.awaited(event):
            self.heard, self.at = event, time.monotonic()
            self.stop.set("heard")


class Place:
    """Cells of a matrix, each a job of its own, on the first CPUs that this process may use."""

    def __init__(self, runtime: str, folder: Path, matrix: str, n_cpus: int = 1) -> None:
        self.cpus = this_machine().room.cpus[:n_cpus]
        self.launcher: Launcher = choose_launcher(runtime, None)[0]
        self.folder = folder
        folder.mkdir()
        matrix_file = folder / "place.yaml"
        matrix_file.write_text(matrix)
        asked = load_matrix(matrix_file)
        self.corpus = find_corpus(asked.corpus)
        self.tokens = self.corpus.for_cells()
        self.cells = asked.with_corpus(self.corpus.ref).cells
        self._numbers = count(1)

    def job(self, model: str, optimizer: str) -> Job:
        """A new attempt at the cell of this arm."""
        (cell,) = (
            cell
            for cell in self.cells
            if (cell.spec.model.name, cell.spec.optimizer.name) == (model, optimizer)
        )
        files = CellFiles(self.folder / "results" / "cells" / f"perf-{next(self._numbers)}")
        files.folder.mkdir(parents=True)
        files.spec.write_text(cell.spec.to_json())
        files.spec.chmod(0o644)
        return Job(cell.spec, Limits(), files, self.tokens, self.cpus, ())

    def cell_until(self, job: Job, awaited: Callable[[Event], bool]) -> float:
        """Seconds from the launch of a cell to an event, with which it is stopped."""
        ear = Ear(awaited)
        ended = self.launcher.run(job, ear, ear.stop)
        assert ear.heard is not None, job.files.log.read_text()
        return ear.at - ended.launched

    def cell_row(self, job: Job) -> dict[str, Any]:
        """The columns that a whole cell tells of itself."""
        ear = Ear(lambda event: False)
        self.launcher.run(job, ear, ear.stop)
        result = json.loads(job.files.result.read_text())
        assert result["status"] == "ok", result["reason"]
        row: dict[str, Any] = result["row"]
        return row

    def python(self, job: Job, code: str) -> tuple[float, Event]:
        """Launch plain Python where and how the job's cell would run, until it prints JSON.

        Returns the seconds that took, and what it printed.
        """
        ear = Ear(lambda event: True)
        ended = supervise(self._command(job, code), ear, ear.stop)
        if isinstance(self.launcher, ContainerLauncher):
            self.launcher.engine.remove(container_name(job))
        assert ear.heard is not None, job.files.log.read_text()
        return ear.at - ended.launched, ear.heard

    def _command(self, job: Job, code: str) -> Command:
        launcher, words = self.launcher, ["-P", "-c", code]
        environment = dict(os.environ)
        if isinstance(launcher, LocalLauncher):
            argv = [launcher.python, *words]
            environment = local_environment(job.spec.train.threads)
        else:
            assert isinstance(launcher, ContainerLauncher)
            image = launcher.environment(job.spec.device).env_id
            user = (NOBODY, NOBODY) if os.getuid() == 0 else (os.getuid(), os.getgid())
            whole = run_argv(launcher.runtime, image, job, *user)
            argv = [*whole[: whole.index(image) + 1], "python3", *words]
        return Command(
            argv=argv,
            environment=environment,
            log=job.files.log,
            limits=job.limits,
            find=lambda pid: None,
            kill=kill_group,
            cpus=job.cpus if isinstance(launcher, LocalLauncher) else (),
        )
