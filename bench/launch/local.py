"""A cell as a local process: for machines without a container engine."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.errors import MissingError
from bench.identity import PACKAGE
from bench.launch.job import Environment, Exit, Job, Stop, Watcher
from bench.launch.process import Command, supervise
from bench.measure.cgroup import Cgroup
from bench.measure.host import CellProcesses
from bench.surroundings import worker_environment

# Versions without importing the packages: a torch import takes seconds.
VERSIONS = """
import importlib.metadata, json, platform, sys
def version(name):
    try: return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError: return None
print(json.dumps([platform.python_version(), *map(version, sys.argv[1:])]))
"""
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class LocalLauncher:
    """Runs the worker under an interpreter that has torch and numpy."""

    python: str
    runtime: str = "local"
    enforces_memory: bool = False
    requirements: tuple[str, ...] = ()  # name==version, as the matrix asks

    def environment(self, device: str) -> Environment:
        return Environment(env_id=self._env_id)

    @cached_property
    def _env_id(self) -> str:
        pinned = dict(each.split("==") for each in self.requirements)
        try:
            answer = subprocess.run(
                [self.python, "-c", VERSIONS, "torch", "numpy", *pinned],
                capture_output=True,
                text=True,
                timeout=PROBE_TIMEOUT_S,
                check=True,
            )
            versions = json.loads(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise MissingError(
                f"{self.python} does not answer as a Python interpreter ({error}). "
                "Name one that has torch and numpy: --worker-python PATH."
            ) from error
        found = dict(zip(("torch", "numpy", *pinned), versions[1:], strict=True))
        missing = [name for name in ("torch", "numpy") if found[name] is None]
        if missing:
            raise MissingError(
                f"{self.python} has no {' and no '.join(missing)}, which a cell needs in the local "
                "runtime. Install with: make setup RUNTIME=local   (or name an interpreter that "
                "has them: --worker-python PATH)"
            )
        wrong = {name: found[name] for name in pinned if found[name] != pinned[name]}
        if wrong:
            has = ", ".join(f"{name} {version or 'not at all'}" for name, version in wrong.items())
            raise MissingError(
                f"the matrix asks for {', '.join(self.requirements)}, and {self.python} has {has}. "
                f"Install with: {self.python} -m pip install {' '.join(self.requirements)}"
            )
        text = f"python {versions[0]}"
        for name, version in found.items():
            text += f" {name} {version}"
        return "local:" + hashlib.sha256(text.encode()).hexdigest()[:12]

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
