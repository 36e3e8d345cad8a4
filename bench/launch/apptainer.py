"""A cell in Apptainer, which clusters have where no engine may run. Untested with a real one.

Source: https://apptainer.org/docs/user/latest/ (exec; bind paths and mounts; GPU support)
"""

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.border.surroundings import compiler_environment, worker_environment
from bench.errors import EngineError, MissingError
from bench.launch.container import CELL, CODE, COMPILED, LOOK, arguments, given
from bench.launch.job import Environment, Exit, Job, Stop, Watcher, read_left
from bench.launch.local import find_tree, kill_group
from bench.launch.process import Command, supervise
from bench.launch.reach import PROGRAM as REACH
from bench.launch.reach import TIMEOUT_S, Reach, read_reach

PROGRAM = "apptainer"
BUILD = "docker save TAG -o bench.tar, then apptainer build bench.sif docker-archive:bench.tar"
CLOSED = (PROGRAM, "exec", "--containall", "--no-home", "--net", "--network", "none")
FAILED = 255  # of `apptainer exec`, where it cannot start what it was given
ANSWER_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class ApptainerLauncher:
    """Runs cells in an image file that somebody made. It limits no memory; CPUs by affinity."""

    sif: Path | None
    runtime: str = PROGRAM
    enforces_memory: bool = False
    enforces_cpus: bool = True

    def environment(self, device: str) -> Environment:
        return Environment(env_id=self._image_id, image_id=self._image_id)

    def reach(self, gpu_uuid: str, folder: Path | None = None) -> Reach:
        argv = reach_argv(self._file, gpu_uuid)
        try:
            answer = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=TIMEOUT_S,
            )
            return read_reach(answer.stdout)
        except ValueError:
            return Reach(answer.stderr.strip() or "the probe in the container gave no answer")
        except (OSError, subprocess.SubprocessError) as error:
            return Reach(str(error))

    def clean(self, folder: Path) -> int:
        return 0  # a worker ends when its runner does: its input closes

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            command = Command(
                argv=exec_argv(self._file, job, Path(scratch)),
                environment=os.environ,  # --containall keeps it outside
                log=job.files.log,
                limits=job.limits,
                find=find_tree,
                kill=kill_group,
                cpus=job.cpus,
                baton=job.baton,
            )
            ended = supervise(command, watcher, stop)
        if ended.ended_by == "itself" and ended.code == FAILED and ended.last_event is None:
            said = read_left(job.files.log, last=2000).strip()[-500:]
            raise EngineError(f"{PROGRAM} did not start the cell: {said}. {LOOK}")
        return ended

    @property
    def _file(self) -> Path:
        if self.sif is None:
            raise MissingError(
                f"{PROGRAM} runs an image file, and none is named. Give --image FILE.sif. Make it: "
                f"{BUILD}"
            )
        if not self.sif.is_file():
            raise MissingError(f"there is no image file {self.sif}. Make it: {BUILD}")
        return self.sif.absolute()

    @cached_property
    def _image_id(self) -> str:
        with self._file.open("rb") as file:
            return f"sif:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def version() -> str:
    """What Apptainer tells of itself.

    Raises:
        EngineError: if it is not there, or does not answer.
    """
    if shutil.which(PROGRAM) is None:
        raise EngineError(f"there is no {PROGRAM} here. Install it, or name another --runtime.")
    try:
        answer = subprocess.run(
            [PROGRAM, "--version"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=ANSWER_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise EngineError(f"{PROGRAM} does not answer: {error}. Repair it.") from error
    return answer.stdout.strip()


def exec_argv(image: Path, job: Job, scratch: Path) -> list[str]:
    """The command that runs a cell. Pure: tests compare it with a recorded text.

    `scratch`: an empty folder for /tmp, which is Apptainer's 64 MiB of memory otherwise.
    """
    files = job.files
    argv = [*CLOSED, "--workdir", str(scratch), "--pwd", "/tmp"]
    argv += ["--nv"] * bool(job.gpu_uuids)
    argv += ["--bind", bind(files.folder, CELL)]
    argv += ["--bind", bind(files.spec, f"{CELL}/spec.json", read_only=True)]
    for source, target in given(job):
        argv += ["--bind", bind(source, target, read_only=True)]
    argv += [str(image), *_variables(job.spec.threads, job.gpu_uuids)]
    argv += [f"{name}={value}" for name, value in compiler_environment(COMPILED).items()]
    return [*argv, "python3", "-P", "-m", *arguments(job)]


def reach_argv(image: Path, gpu_uuid: str) -> list[str]:
    """The command that tries a GPU out in a container like a cell's."""
    argv = [*CLOSED, "--pwd", "/tmp", "--nv", "--bind", _our_code(), str(image)]
    return [*argv, *_variables(1, (gpu_uuid,)), "python3", "-P", "-m", REACH]


def _our_code() -> str:
    return bind(PACKAGE, f"{CODE}/bench", read_only=True)


def _variables(threads: int, gpu_uuids: Sequence[str]) -> list[str]:
    """By `env`: Apptainer lets nobody set HOME, and reads commas in what it is given."""
    variables = {
        **worker_environment(threads),
        "HOME": "/tmp",
        "PYTHONPATH": CODE,
        "CUDA_VISIBLE_DEVICES": ",".join(gpu_uuids),  # --nv brings in every GPU
    }
    return ["env", *(f"{name}={value}" for name, value in variables.items())]


def bind(source: Path, target: str, read_only: bool = False) -> str:
    """A bind path as Apptainer parses it: commas and colons of a path after a backslash."""
    escaped = re.sub(r"([\\,:])", r"\\\1", str(source.absolute()))
    return f"{escaped}:{target}:ro" if read_only else f"{escaped}:{target}"
