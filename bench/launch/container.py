"""A cell in a container of its own, closed as far as it goes."""

import contextlib
import csv
import hashlib
import io
import os
import signal
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.border.spec import CellFiles
from bench.border.surroundings import RUNNER_GONE, compiler_environment, worker_environment
from bench.errors import EngineError
from bench.launch.engine import Engine
from bench.launch.image import require_image, require_named
from bench.launch.job import Environment, Exit, Job, Stop, Watcher, read_left
from bench.launch.local import kill_group
from bench.launch.process import Command, supervise
from bench.launch.reach import PROGRAM, TIMEOUT_S, Reach, read_reach
from bench.measure.cgroup import Cgroup
from bench.measure.host import CellProcesses

CELL, TOKENS, CODE, OWN_CODE = "/cell", "/corpus.tokens", "/opt/bench", "/own"
NOBODY = 65532  # the user where the caller is root: it exists nowhere and owns nothing
MAX_PROCESSES = 512  # threads count too; torch starts dozens
SCRATCH = "/tmp:rw,exec,nosuid,nodev,size=1g"  # exec: compilers load what they build
LABEL = "bench.records.folder"
LOOK = "See what the engine's own log says, then run again: finished cells stay."
CLIENT_FAILED = 125  # of `docker run`: the engine's fault, not the container's


@dataclass(frozen=True)
class ContainerLauncher:
    engine: Engine
    image: str | None = None  # a tag for all devices; None: the image made for each
    requirements: tuple[str, ...] = ()  # what that image has on top, as the matrix asks
    enforces_memory: bool = True

    @property
    def runtime(self) -> str:
        return self.engine.name

    def environment(self, device: str) -> Environment:
        image_id = _image_id(self, device)
        return Environment(env_id=image_id, image_id=image_id)

    def reach(self, gpu_uuid: str) -> Reach:
        name = f"bench-gpu-{os.getpid()}"
        argv = reach_argv(self.runtime, _image_id(self, "cuda"), gpu_uuid, name, *_user())
        try:
            return read_reach(self.engine.command(*argv[1:], timeout_s=TIMEOUT_S))
        except EngineError as error:  # mostly that it has no way to a GPU
            return Reach(str(error))
        except ValueError:
            return Reach("the probe in the container gave no answer")
        finally:
            with contextlib.suppress(EngineError):  # gone already, if all went well
                self.engine.remove(name)

    def clean(self, folder: Path) -> int:
        left = self.engine.containers(folder_label(folder))
        self.engine.remove(*left)
        return len(left)

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        name = container_name(job)
        uid, gid = _user()
        if uid == NOBODY:
            for path in (job.files.folder, *job.files.folder.rglob("*")):
                os.chown(path, uid, gid)

        def kill(client: int, number: signal.Signals) -> None:
            with contextlib.suppress(EngineError):  # not there yet, gone already, or no engine
                self.engine.command("kill", "--signal", number.name, name)
            if number == signal.SIGKILL:
                kill_group(client, number)

        command = Command(
            argv=run_argv(self.engine.name, _image_id(self, job.spec.device), job, uid, gid),
            environment=os.environ,
            log=job.files.log,
            limits=job.limits,
            find=lambda client: self._processes(name),
            kill=kill,
        )
        try:
            ended = supervise(command, watcher, stop)
            return self._with_engines_account(ended, name, job)
        finally:
            with contextlib.suppress(EngineError):  # the next run's clean() tries again
                self.engine.remove(name)

    def _processes(self, name: str) -> CellProcesses | None:
        """The container's processes; None where the engine's numbers are not those of our kernel.

        So it is with a remote engine, one in a virtual machine, or when we are in a container
        ourselves: the process of that number is another, or none.
        """
        try:
            container_id, pid = self.engine.identity(name)
        except EngineError:  # not there yet, or gone
            return None
        group = Cgroup.of(pid) if pid else None
        if group is None or container_id not in str(group.memory):
            return None
        return CellProcesses(pid, own_cgroup=group)

    def _with_engines_account(self, ended: Exit, name: str, job: Job) -> Exit:
        """The exit as the engine saw it: its client's own exit code is ambiguous."""
        try:
            state = self.engine.state(name)
        except EngineError as error:
            if ended.ended_by != "itself":
                return ended  # stopped before the container came to be
            said = read_left(job.files.log, last=2000).strip()[-500:]
            raise EngineError(
                f"{self.runtime} did not start the cell's container, or lost it: {said or error}. "
                f"{LOOK}"
            ) from error
        if state.get("Status") != "exited":
            raise EngineError(
                f"{self.runtime} lost the cell: its container is {state.get('Status')} "
                f"({state.get('Error') or 'no error given'}). {LOOK}"
            )
        if ended.ended_by == "itself" and _lost(ended.code, state["ExitCode"]):
            raise EngineError(
                f"{self.runtime} let go of the cell's container while it ran: its client ended "
                f"with {ended.code}, the container with {state['ExitCode']}. {LOOK}"
            )
        return replace(ended, code=state["ExitCode"], oom_killed=bool(state["OOMKilled"]))


def _lost(client: int, container: int) -> bool:
    """Whether an engine lost its container half-way, so that its end says nothing of the cell.

    A client that saw the container end gives the container's own code; one that lost its engine
    gives 125. A worker ends with RUNNER_GONE when its input closes without anybody's will.
    """
    return container == RUNNER_GONE or (client == CLIENT_FAILED and container != CLIENT_FAILED)


@cache
def _image_id(launcher: ContainerLauncher, device: str) -> str:
    """All cells of a run are of one image, also if a tag moves on."""
    if launcher.image is not None:
        return require_named(launcher.engine, launcher.image)
    return require_image(launcher.engine, device, launcher.requirements)


def _user() -> tuple[int, int]:
    """Who runs inside: the caller, or nobody at all where that is root."""
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


def container_name(job: Job) -> str:
    """Unique on the machine: the results folder's label and the attempt's folder."""
    return f"bench-{_folder_hash(_results_folder(job))}-{job.files.folder.name}"


def folder_label(folder: Path) -> str:
    """All containers of one results folder carry this label."""
    return f"{LABEL}={_folder_hash(folder)}"


def _results_folder(job: Job) -> Path:
    return job.files.folder.parent.parent


def _folder_hash(folder: Path) -> str:
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12]


def run_argv(engine: str, image: str, job: Job, uid: int, gid: int) -> list[str]:
    """The command that runs a cell. Pure: tests compare it with a recorded text."""
    files, limits = job.files, job.limits
    memory = f"{int(limits.memory_gib * 2**30)}b"
    argv = [engine, "run", "--interactive", "--name", container_name(job)]
    argv += ["--label", folder_label(_results_folder(job))]
    argv += closed(engine, uid, gid)
    argv += ["--memory", memory, "--memory-swap", memory]  # equal: no swap
    argv += ["--cpuset-cpus", ",".join(str(cpu) for cpu in job.cpus)]
    if job.gpu_uuid is not None:
        argv += _gpu(engine, job.gpu_uuid)
    compiled = CellFiles(Path(CELL)).compiled
    argv += _variables(job.spec.train.threads, **compiler_environment(compiled))
    argv += ["--mount", mount(files.folder, CELL)]
    argv += ["--mount", mount(files.spec, f"{CELL}/spec.json", read_only=True)]
    argv += ["--mount", mount(job.tokens, TOKENS, read_only=True)]
    argv += ["--mount", _our_code()]
    code = {folder: f"{OWN_CODE}/{folder.name}" for folder in job.code}
    for folder, target in code.items():
        argv += ["--mount", mount(folder, target, read_only=True)]
    return [*argv, image, "python3", "-P", "-m", job.program, CELL, TOKENS, *code.values()]


def reach_argv(engine: str, image: str, gpu_uuid: str, name: str, uid: int, gid: int) -> list[str]:
    """The command that tries a GPU out in a container like a cell's."""
    argv = [engine, "run", "--rm", "--name", name, *closed(engine, uid, gid)]
    argv += [*_gpu(engine, gpu_uuid), *_variables(threads=1), "--mount", _our_code()]
    return [*argv, image, "python3", "-P", "-m", PROGRAM]


def closed(engine: str, uid: int, gid: int) -> list[str]:
    """What keeps a container from everything that it is not given."""
    argv = ["--pull", "never", "--log-driver", "none"]
    argv += ["--network", "none", "--read-only", "--tmpfs", SCRATCH]
    argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    argv += ["--user", f"{uid}:{gid}", "--pids-limit", str(MAX_PROCESSES)]
    if engine == "podman" and uid != NOBODY:
        argv += ["--userns", "keep-id"]  # rootless: the caller's uid inside as outside
    return argv


def _our_code() -> str:
    return mount(PACKAGE, f"{CODE}/bench", read_only=True)


def _variables(threads: int, **more: str) -> list[str]:
    variables = {**worker_environment(threads), "HOME": "/tmp", "PYTHONPATH": CODE, **more}
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


def _gpu(engine: str, uuid: str) -> list[str]:
    if engine == "podman":
        return ["--device", f"nvidia.com/gpu={uuid}"]  # Container Device Interface
    return ["--gpus", f"device={uuid}"]


def mount(source: Path, target: str, read_only: bool = False) -> str:
    """A bind mount as the engines parse it: one CSV record, so that any path is one field."""
    fields = ["type=bind", f"source={source.absolute()}", f"target={target}"]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields + ["readonly"] * read_only)
    return buffer.getvalue()
