"""A cell as a local process: for machines without a container engine."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from bench.border.surroundings import compiler_environment
from bench.errors import MissingError, RequestError
from bench.launch.job import Environment, Exit, Job, Stop, Watcher
from bench.launch.probe import ANSWER
from bench.launch.process import Command, supervise
from bench.launch.reach import PROGRAM, TIMEOUT_S, Reach, read_reach
from bench.launch.variables import changing, local_environment, of_program
from bench.measure.cgroup import Cgroup
from bench.measure.host import CellProcesses
from bench.measure.packed import packed
from bench.records.requirements import pinned

T = TypeVar("T")
NEEDED = ("torch", "numpy")
PROBE_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class LocalLauncher:
    """Runs the worker under an interpreter that has torch and numpy."""

    python: str
    runtime: str = "local"
    enforces_memory: bool = False
    enforces_cpus: bool = True  # by affinity
    requirements: tuple[str, ...] = ()  # name==version, as the matrix asks
    installed: tuple[str, ...] = ()  # classes of the matrix that it imports: package.module:Name

    def environment(self, device: str) -> Environment:
        image = packed()
        return Environment(env_id=self._env_id, image_id=image.cell_image if image else None)

    def reach(self, gpu_uuid: str, folder: Path | None = None) -> Reach:
        asked = f"whether its torch reaches {gpu_uuid}"
        return self._tell(asked, read_reach, PROGRAM, gpus=gpu_uuid, timeout_s=TIMEOUT_S)

    def clean(self, folder: Path) -> int:
        return 0  # a local worker dies with its runner

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        if job.spec.program is None:
            return supervise(self._command(job, {}), watcher, stop)
        with tempfile.TemporaryDirectory(prefix="bench-home-", ignore_cleanup_errors=True) as home:
            return supervise(self._command(job, of_program(Path(home))), watcher, stop)

    def _command(self, job: Job, variables: Mapping[str, str]) -> Command:
        """`variables`: over those of every local worker."""
        files = job.files
        return Command(
            argv=[
                self.python,
                "-P",  # nothing of the current folder is imported
                "-m",
                *job.arguments(
                    str(files.folder.absolute()),
                    [str(file.absolute()) for file in job.tokens],
                    [str(folder.absolute()) for folder in job.code],
                    [str(path.absolute()) for _, path in job.data],
                ),
            ],
            environment={
                **local_environment(job.spec.threads, ",".join(job.gpu_uuids)),
                **compiler_environment(files.compiled.absolute()),
                **variables,
            },
            log=files.log,
            limits=job.limits,
            find=find_tree,
            kill=kill_group,
            cpus=job.cpus,
            baton=job.baton,
        )

    @cached_property
    def _env_id(self) -> str:
        """local:<hash>, by versions and whatever else is there that may change a result.

        That is: the files of the packages that hold `installed`, code that Python runs by itself
        as it starts, variables that are passed on, and the image that all of it lies in, if any.

        Raises:
            MissingError: if it is no interpreter, or lacks a package, with what installs it.
            RequestError: for a class whose files no installed package lists.
        """
        wanted = pinned(self.requirements)
        modules = sorted({reference.partition(":")[0] for reference in self.installed})
        found = self._ask([*NEEDED, *wanted], modules)
        versions = found["versions"]
        self._check_versions(versions)
        self._check_classes(found["modules"])
        told = [f"python {found['python']}", *(f"{name} {versions[name]}" for name in NEEDED)]
        told += [f"{name} {wanted[name]}" for name in sorted(wanted.keys() - set(NEEDED))]
        holders = [held for held in found["modules"].values() if held is not None]
        told += sorted({f"{held['package']} {held['sha256']}" for held in holders})
        told += sorted(f"{name} {sha256}" for name, sha256 in found["startup"].items())
        told += [f"{name} {value}" for name, value in changing().items()]
        if image := packed():
            told.append(f"image {image.cell_image}")
        return "local:" + hashlib.sha256(" ".join(told).encode()).hexdigest()[:12]

    def _ask(self, packages: Sequence[str], modules: Sequence[str]) -> dict[str, Any]:
        """The answer of bench/launch/probe.py, which finds what a worker there would import."""
        asked = json.dumps({"packages": packages, "modules": modules})
        return self._tell("what is installed for it", _read_answer, "bench.launch.probe", asked)

    def _tell(
        self,
        what: str,
        read: Callable[[str], T],
        *program: str,
        gpus: str = "",
        timeout_s: float = PROBE_TIMEOUT_S,
    ) -> T:
        """What `read` makes of the output of a program of ours, run as a worker is.

        Raises:
            MissingError: if it fails, or `read` does so with a ValueError.
        """
        try:
            answer = subprocess.run(
                [self.python, "-P", "-m", *program],
                env=local_environment(threads=1, gpus=gpus),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout_s,
                check=True,
            )
            return read(answer.stdout)
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise MissingError(
                f"{self.python} does not tell {what} ({_why(error)}). "
                "Name a Python interpreter that has torch and numpy: --worker-python PATH."
            ) from error

    def _check_versions(self, found: Mapping[str, str | None]) -> None:
        wanted = pinned(self.requirements)
        missing = [name for name in NEEDED if found[name] is None]
        if missing:
            raise MissingError(
                f"{self.python} has no {' and no '.join(missing)}, which a cell needs in the local "
                "runtime. Install with: make setup RUNTIME=local   (or name an interpreter that "
                "has them: --worker-python PATH)"
            )
        wrong = {name: found[name] for name in wanted if found[name] != wanted[name]}
        if wrong:
            has = ", ".join(f"{name} {version or 'not at all'}" for name, version in wrong.items())
            raise MissingError(
                f"the matrix asks for {', '.join(self.requirements)}, and {self.python} has {has}. "
                f"Install with: {self.python} -m pip install {' '.join(self.requirements)}"
            )

    def _check_classes(self, modules: Mapping[str, Mapping[str, str] | None]) -> None:
        """A module that is not there is for the worker to tell, in the cell's own row."""
        for reference in self.installed:
            held = modules[reference.partition(":")[0]]
            if held is not None and not held["package"]:
                raise RequestError(
                    f"{reference}: {self.python} imports it from {held['file']}, which no "
                    "installed package lists among its files (an editable one does not): after an "
                    "edit there, cells of the old code would count as those of the new. Name its "
                    "folder with `path`, so that its bytes are part of the cell's identity, and "
                    "uninstall it; or install it in the usual way."
                )


def _read_answer(output: str) -> dict[str, Any]:
    """What prints as the interpreter starts or ends must not break it."""
    _, _, told = output.partition(ANSWER)
    found: dict[str, Any] = json.loads(told.partition("\n")[0])
    return found


def _why(error: Exception) -> str:
    """The last line that a program said before it failed; else the error's own words."""
    said = error.stderr.strip() if isinstance(error, subprocess.CalledProcessError) else ""
    return said.splitlines()[-1] if said else str(error)


def find_tree(pid: int) -> CellProcesses:
    """The child is the worker, in the same control group as we are."""
    return CellProcesses(pid, own_cgroup=None, shared_cgroup=Cgroup.of(pid))


def kill_group(pid: int, number: signal.Signals) -> None:
    """The worker and all that it started: it leads a process group of its own."""
    with contextlib.suppress(ProcessLookupError):  # it ended in this moment
        os.killpg(pid, number)
