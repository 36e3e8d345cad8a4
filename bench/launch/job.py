"""What goes in at the seam between runner and launchers, and what comes out."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from bench.border.options import Limits
from bench.border.spec import CellFiles, RunSpec
from bench.border.turns import IN_TURN
from bench.launch.baton import Baton
from bench.launch.reach import Reach
from bench.measure.host import FindProcesses


class Watcher(Protocol):
    """Is told of a cell while it runs, in the thread that waits for it."""

    def started(self, find: FindProcesses) -> None:
        """It was launched; `find` may take a while, and works once the worker has spoken."""

    def event(self, event: dict[str, Any]) -> None:
        """One of the worker's JSON lines."""


@dataclass(frozen=True)
class Job:
    """One attempt at one cell: its folder holds spec.json and nothing else yet."""

    spec: RunSpec
    limits: Limits
    files: CellFiles
    # Of the corpus: a text's token ids are one file, others several. A program reads what it wants.
    tokens: tuple[Path, ...]
    cpus: tuple[int, ...]  # the CPUs that the cell is bound to
    gpu_uuids: tuple[str, ...]  # of one kind, in NVML's order; empty on the CPU
    code: tuple[Path, ...] = ()  # folders that hold the matrix's own classes, or its program
    data: tuple[tuple[str, Path], ...] = ()  # of a program: what it reads, by name
    module: str = "bench.worker"  # what runs
    baton: Baton | None = None  # where it trains in turn with others

    def arguments(
        self, cell: str, tokens: Sequence[str], code: Sequence[str], data: Sequence[str]
    ) -> list[str]:
        """What its module is called with, by the paths where it runs."""
        named = [f"{name}={path}" for (name, _), path in zip(self.data, data, strict=True)]
        in_turn = [IN_TURN] if self.baton else []
        return [self.module, *in_turn, cell, *tokens, *code, *named]


@dataclass(frozen=True)
class Environment:
    """What a cell would run in; part of what makes a row comparable."""

    env_id: str
    image_id: str | None = None


@dataclass(frozen=True)
class Exit:
    """How a cell's process ended, as seen from outside. Times are of CLOCK_MONOTONIC."""

    ended_by: Literal["itself", "timeout", "interrupt"]
    code: int  # as subprocess gives it: negative is a signal
    launched: float
    exited: float
    oom_killed: bool = False
    stopped_why: str | None = None  # unless it ended itself
    last_event: dict[str, Any] | None = None  # where it was when it ended
    waited_s: float = 0.0  # of all that time, for its turn


class Stop:
    """Asks every running cell to end. Can be set from a signal handler; waits can poll on it."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.why: str | None = None
        self.by_user = False

    def set(self, why: str, by_user: bool = False) -> None:
        """Only the first reason counts."""
        if self.why is None:
            self.why, self.by_user = why, by_user
            os.write(self._write, b"x")  # never read: it stays readable for every waiter

    @property
    def is_set(self) -> bool:
        return self.why is not None

    def fileno(self) -> int:
        return self._read


class Launcher(Protocol):
    """Runs one cell somewhere. A test's fake needs these."""

    @property
    def runtime(self) -> str:
        """docker, podman, apptainer or local."""

    @property
    def enforces_memory(self) -> bool:
        """Whether a cell beyond limits.memory_gib is stopped."""

    @property
    def enforces_cpus(self) -> bool:
        """Whether a cell is bound to its CPUs."""

    def environment(self, device: str) -> Environment:
        """What a cell on this device would run in.

        Raises:
            MissingError: with the command that provides what is missing.
        """

    def reach(self, gpu_uuid: str, folder: Path | None = None) -> Reach:
        """Whether a cell on this GPU could compute on it: tried out where cells run.

        `folder`: of results, whose clean() ends what a killed runner left of it.

        Raises:
            MissingError: where not even that can be found out.
        """

    def clean(self, folder: Path) -> int:
        """End what an earlier, killed runner of this results folder left; how many there were."""

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        """Launch, wait, and leave nothing running."""


def read_left(path: Path, last: int) -> str:
    """The last bytes of a text that the worker left, empty if there is none.

    No link is followed: the worker owns its folder, and must not make us read another file.
    """
    if path.is_symlink() or not path.is_file():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - last))
        return file.read(last).decode("utf-8", errors="replace")
