"""A cell in a container of its own, closed as far as it goes."""

import contextlib
import csv
import hashlib
import io
import math
import os
import signal
import stat
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from bench.border.identity import PACKAGE
from bench.border.spec import CellFiles
from bench.border.surroundings import RUNNER_GONE, compiler_environment, worker_environment
from bench.errors import CorpusError, EngineError
from bench.launch.cdi import docker_words, podman_words
from bench.launch.engine import CONTROLLERS, Engine, confinement, controllers
from bench.launch.image import check_python, require_image, require_named
from bench.launch.job import Environment, Exit, Job, Stop, Watcher, read_left
from bench.launch.local import kill_group
from bench.launch.process import Command, supervise
from bench.launch.reach import PROGRAM, TIMEOUT_S, Reach, read_reach
from bench.launch.seccomp import profile_file
from bench.measure.cgroup import Cgroup
from bench.measure.gpu_index import gpu_index, is_only_gpu
from bench.measure.host import CellProcesses

CELL, TOKENS, CODE, OWN_CODE, DATA = "/cell", "/corpus.tokens", "/opt/bench", "/own", "/data"
COMPILED = CellFiles(Path(CELL)).compiled
NOBODY = 65532  # the user where the caller is root: it exists nowhere and owns nothing
MAX_PROCESSES = 512  # for each GPU; threads count too, and torch starts dozens
SCRATCH = "/tmp:rw,exec,nosuid,nodev,size=1g"  # exec: compilers load what they build
# PyTorch's loaders and NCCL fill the usual 64 MB. It counts as the cell's memory.
SHARED_MEMORY = "/dev/shm:rw,noexec,nosuid,nodev,size={gib}g"
LABEL = "bench.records.folder"
LOOK = "See what the engine's own log says, then run again: finished cells stay."
# A file of the kernel's notice that memory ran out. Podman looks for it elsewhere than where conmon
# 2.1 puts it: where the client was started (Debian 12, control groups of version 1).
NOTICE = "oom"
ENDED = ("exited", "stopped")  # the latter is podman's, where its client did not see the end
CLIENT_FAILED = 125  # of `docker run`: the engine's fault, not the container's


@dataclass(frozen=True)
class ContainerLauncher:
    engine: Engine
    image: str | None = None  # a tag for all devices; None: the image made for each
    requirements: tuple[str, ...] = ()  # what that image has on top, as the matrix asks

    @property
    def runtime(self) -> str:
        return self.engine.name

    @property
    def enforces_memory(self) -> bool:
        return "memory" in self.controllers

    @property
    def enforces_cpus(self) -> bool:
        return "cpuset" in self.controllers

    @property
    def controllers(self) -> frozenset[str]:
        """The control groups that hold a cell."""
        return controllers(self.engine.name, self._info)

    @cached_property
    def _info(self) -> dict[str, Any]:
        return self.engine.info()

    @cached_property
    def _user(self) -> tuple[int, int]:
        return user_inside(self.engine.name, confinement(self.engine.name, self._info))

    @cached_property
    def _security(self) -> list[str]:
        words = security_words(confinement(self.engine.name, self._info))
        profile = profile_file(self._info) if self.engine.name == "podman" else None
        return [*words, "--security-opt", f"seccomp={profile}"] if profile else words

    def _gpu(self, uuids: Sequence[str]) -> list[str]:
        if self.engine.name == "podman":
            return podman_words(uuids, gpu_index, is_only_gpu)
        return docker_words(uuids, gpu_index, is_only_gpu, self._info)

    def environment(self, device: str) -> Environment:
        image_id = _image_id(self, device)
        return Environment(env_id=image_id, image_id=image_id)

    def reach(self, gpu_uuid: str, folder: Path | None = None) -> Reach:
        name = f"bench-gpu-{os.getpid()}"
        image = _image_id(self, "cuda")
        try:
            gpu = self._gpu((gpu_uuid,))
            if folder is not None:
                gpu += ["--label", folder_label(folder)]
            argv = reach_argv(self.runtime, image, gpu, name, *self._user, self._security)
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
        uid, gid = self._user
        if uid == NOBODY:
            check_readable(job.tokens)
            for path in (job.files.folder, *job.files.folder.rglob("*")):
                os.chown(path, uid, gid)

        def kill(client: int, number: signal.Signals) -> None:
            with contextlib.suppress(EngineError):  # not there yet, gone already, or no engine
                self.engine.command("kill", "--signal", number.name, name)
                if number == signal.SIGKILL:
                    self.engine.command("wait", name)  # podman's kill does not wait for the end
            if number == signal.SIGKILL:
                kill_group(client, number)

        image = _image_id(self, job.spec.device)
        gpu = self._gpu(job.gpu_uuids) if job.gpu_uuids else []
        argv = run_argv(
            self.engine.name, image, job, uid, gid, self.controllers, gpu, self._security
        )
        with tempfile.TemporaryDirectory(prefix="bench-") as place:
            command = Command(
                argv=argv,
                environment=os.environ,
                log=job.files.log,
                limits=job.limits,
                find=lambda client: self._processes(name),
                kill=kill,
                place=Path(place),
                baton=job.baton,
            )
            try:
                ended = self._with_engines_account(supervise(command, watcher, stop), name, job)
            finally:
                with contextlib.suppress(EngineError):  # the next run's clean() tries again
                    self.engine.remove(name)
            noticed = (Path(place) / NOTICE).exists()
        return replace(ended, oom_killed=ended.oom_killed or noticed)

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
        if state.get("Status") not in ENDED:
            why = state.get("Error") or read_left(job.files.log, last=500).strip()
            raise EngineError(
                f"{self.runtime} lost the cell: its container is {state.get('Status')} "
                f"({why or 'no error given'}). {LOOK}"
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
        image_id = require_named(launcher.engine, launcher.image)
        check_python(launcher.engine, launcher.image, image_id)
        return image_id
    return require_image(launcher.engine, device, launcher.requirements)


def user_inside(engine: str, held_in: Collection[str]) -> tuple[int, int]:
    """Who runs inside (uid, gid): the caller, or nobody at all where that is root.

    `held_in`: the engine's confinement. In rootless Docker the caller is root, without its rights.
    """
    if engine == "docker" and "rootless" in held_in:
        return 0, 0
    return (os.getuid(), os.getgid()) if os.getuid() else (NOBODY, NOBODY)


def check_readable(tokens: Sequence[Path]) -> None:
    """Token files are the user's own, and those of a text's are readable to all.

    Raises:
        CorpusError: for one that a container's user, who is nobody, cannot read.
    """
    for path in tokens:
        if not path.stat().st_mode & stat.S_IROTH:
            raise CorpusError(
                f"{path} cannot be read in a container: you are root here, so that its user is "
                f"nobody at all. Let all read it (chmod o+r {path}), or run with --runtime local."
            )


def security_words(held_in: Collection[str]) -> list[str]:
    """The words without which a cell could not use its files, by the engine's confinement."""
    words = ["--userns", "host"] if "userns" in held_in else []  # else it were another user to them
    # SELinux keeps a container from the user's own files, such as those of the cell's mounts. To
    # label them anew (`:z`) would change them for good, so it does not judge the cell; all else
    # that closes it stays.
    return [*words, "--security-opt", "label=disable"] if "selinux" in held_in else words


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


def run_argv(
    engine: str,
    image: str,
    job: Job,
    uid: int,
    gid: int,
    held_by: Collection[str] = CONTROLLERS,
    gpu: Sequence[str] = (),
    security: Sequence[str] = (),
) -> list[str]:
    """The command that runs a cell. Pure: tests compare it with a recorded text.

    `held_by`: the control groups that hold it. `gpu`: the words that bring its GPUs in. `security`:
    what this engine needs or closes beside.
    """
    files, limits = job.files, job.limits
    memory = f"{int(limits.memory_gib * 2**30)}b"
    argv = [engine, "run", "--interactive", "--name", container_name(job)]
    argv += ["--label", folder_label(_results_folder(job))]
    own = job.spec.program is not None  # it may be several processes, and load with more
    argv += closed(engine, uid, gid, security, math.ceil(limits.memory_gib) if own else 1)
    if own:  # torchrun asks for its host by name, and without a network nobody answers
        argv += ["--hostname", "localhost"]
    if "pids" in held_by:
        argv += ["--pids-limit", str(MAX_PROCESSES * max(1, len(job.gpu_uuids)))]
    if "memory" in held_by:
        argv += ["--memory", memory, "--memory-swap", memory]  # equal: no swap
    if "cpuset" in held_by:
        argv += ["--cpuset-cpus", ",".join(str(cpu) for cpu in job.cpus)]
    argv += gpu
    argv += _variables(job.spec.threads, **compiler_environment(COMPILED))
    argv += ["--mount", mount(files.folder, CELL)]
    argv += ["--mount", mount(files.spec, f"{CELL}/spec.json", read_only=True)]
    for source, target in given(job):
        argv += ["--mount", mount(source, target, read_only=True)]
    return [*argv, image, "python3", "-P", "-m", *arguments(job)]


def given(job: Job) -> list[tuple[Path, str]]:
    """What a cell may read and not change, and where it finds it."""
    tokens = zip(job.tokens, _tokens(job), strict=True)
    code = [(folder, f"{OWN_CODE}/{folder.name}") for folder in job.code]
    data = [(path, f"{DATA}/{name}") for name, path in job.data]
    return [*tokens, (PACKAGE, f"{CODE}/bench"), *code, *data]


def arguments(job: Job) -> list[str]:
    """What its module is called with inside."""
    code = [f"{OWN_CODE}/{folder.name}" for folder in job.code]
    return job.arguments(CELL, _tokens(job), code, [f"{DATA}/{name}" for name, _ in job.data])


def _tokens(job: Job) -> list[str]:
    """Where the corpus's files are inside; several are numbered, as their names may be alike."""
    n_files = len(job.tokens)
    return [TOKENS] if n_files == 1 else [f"{TOKENS}/{number}" for number in range(n_files)]


def reach_argv(
    engine: str,
    image: str,
    gpu: Sequence[str],
    name: str,
    uid: int,
    gid: int,
    security: Sequence[str] = (),
) -> list[str]:
    """The command that tries a GPU out in a container like a cell's."""
    argv = [engine, "run", "--rm", "--name", name, *closed(engine, uid, gid, security)]
    argv += [*gpu, *_variables(threads=1), "--mount", _our_code()]
    return [*argv, image, "python3", "-P", "-m", PROGRAM]


def closed(
    engine: str, uid: int, gid: int, security: Sequence[str] = (), shared_gib: int = 1
) -> list[str]:
    """What keeps a container from everything that it is not given."""
    argv = ["--pull", "never", "--log-driver", "none"]
    argv += ["--network", "none", "--read-only", "--tmpfs", SCRATCH]
    argv += ["--tmpfs", SHARED_MEMORY.format(gib=shared_gib)]
    argv += ["--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    argv += ["--user", f"{uid}:{gid}", *security]
    return argv + _podmans_own(uid) if engine == "podman" else argv


def _our_code() -> str:
    return mount(PACKAGE, f"{CODE}/bench", read_only=True)


def _variables(threads: int, **more: str) -> list[str]:
    variables = {**worker_environment(threads), "HOME": "/tmp", "PYTHONPATH": CODE, **more}
    return [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]


def _podmans_own(uid: int) -> list[str]:
    """What Docker does unasked."""
    words = ["--read-only-tmpfs=false"]  # else /run and /var/tmp can be written, without a limit
    words += ["--stop-timeout", "0"]  # to remove a container is to kill it at once
    if uid != NOBODY:
        words += ["--userns", "keep-id"]  # rootless: the caller's uid inside as outside
    return words


def mount(source: Path, target: str, read_only: bool = False) -> str:
    """A bind mount as the engines parse it: one CSV record, so that any path is one field."""
    fields = ["type=bind", f"source={source.absolute()}", f"target={target}"]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="").writerow(fields + ["readonly"] * read_only)
    return buffer.getvalue()
