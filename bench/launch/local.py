"""A cell as a local process: for machines without a container engine."""

import contextlib
import os
import signal
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.border.surroundings import worker_environment
from bench.launch.installed import local_env_id
from bench.launch.job import Environment, Exit, Job, Stop, Watcher
from bench.launch.process import Command, supervise
from bench.measure.cgroup import Cgroup
from bench.measure.host import CellProcesses


@dataclass(frozen=True)
class LocalLauncher:
    """Runs the worker under an interpreter that has torch and numpy."""

    python: str
    runtime: str = "local"
    enforces_memory: bool = False
    requirements: tuple[str, ...] = ()  # name==version, as the matrix asks
    installed: tuple[str, ...] = ()  # classes of the matrix that it imports: package.module:Name

    def environment(self, device: str) -> Environment:
        return Environment(env_id=self._env_id)

    @cached_property
    def _env_id(self) -> str:
        return local_env_id(self.python, self.requirements, self.installed)

    def clean(self, folder: Path) -> int:
        return 0  # a local worker dies with its runner

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        files = job.files
        command = Command(
            argv=[
                self.python,
                "-P",  # nothing of the current folder is imported
                "-m",
                job.program,
                str(files.folder.absolute()),
                str(job.tokens.absolute()),
                *(str(folder.absolute()) for folder in job.code),
            ],
            environment={
                **os.environ,
                **worker_environment(job.spec.train.threads),
                "PYTHONPATH": str(PACKAGE.parent),
                "CUDA_VISIBLE_DEVICES": job.gpu_uuid or "",
            },
            log=files.log,
            limits=job.limits,
            find=find_tree,
            kill=kill_group,
            cpus=job.cpus,
        )
        return supervise(command, watcher, stop)


def find_tree(pid: int) -> CellProcesses:
    """The child is the worker, in the same control group as we are."""
    return CellProcesses(pid, own_cgroup=None, shared_cgroup=Cgroup.of(pid))


def kill_group(pid: int, number: signal.Signals) -> None:
    """The worker and all that it started: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):  # it ended in this moment
        os.killpg(pid, number)
