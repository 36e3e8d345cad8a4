"""Which machine this is, how much of it we may use, and which commit of this program runs on it."""

import hashlib
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.border.identity import PACKAGE
from bench.measure.cgroup import Cgroup
from bench.measure.gpus import Gpus
from bench.measure.host import CPUS
from bench.measure.listed import find_gpus
from bench.measure.packed import packed
from bench.records.hold import BOOT_ID

# Keeps a published host_id from being looked up in a list of hashed machine ids.
SALT = "bench host"
MACHINE_ID = Path("/etc/machine-id")


@dataclass(frozen=True)
class Room:
    """Counted in GiB. What a control group of ours forbids is not there for us."""

    cpus: tuple[int, ...]  # the first thread of every core before the second of any
    cores: int  # whole ones that may be busy at once; 1 at least
    memory_gib: float
    free_gib: float  # what is available of it
    quota: float | None = None  # CPUs' worth of time that our control group may take


@dataclass(frozen=True)
class Machine:
    """What the cells of one run share, for their rows and for telling what is done."""

    host_id: str
    cpu_model: str | None
    room: Room
    gpus: Gpus
    git_commit: str | None  # of the working tree
    git_dirty: bool | None  # whether tracked files differ from it


def this_machine() -> Machine:
    return Machine(_host_id(), _cpu_model(), this_room(), find_gpus(), *working_tree())


def without_gits(variables: Mapping[str, str]) -> dict[str, str]:
    """Without what git sets for its hooks: there GIT_DIR and others lead to another repository."""
    return {
        name: value
        for name, value in variables.items()
        if not name.startswith("GIT_") or name.startswith("GIT_CONFIG")  # such as safe.directory
    }


def working_tree() -> tuple[str | None, bool | None]:
    """Its commit, and whether tracked files differ from it; None where git does not track ours.

    Ours may be installed in an environment that lies in somebody else's working tree. An image says
    what it was built from.
    """
    if image := packed():
        return image.git_commit, image.git_dirty
    if _ask_git("ls-files", "--error-unmatch", "__init__.py") is None:
        return None, None
    changes = _ask_git("status", "--porcelain", "-uno")
    return _ask_git("rev-parse", "HEAD"), None if changes is None else bool(changes)


def _cpu_model() -> str | None:
    """The processor as the kernel names it, None where it does not say."""
    return _of_cpu("model name") or platform.processor() or None


def cpu_kind() -> str:
    """The processor and its instructions, which a virtual machine may have some of."""
    return f"{_cpu_model()}: {_of_cpu('flags') or _of_cpu('Features')}"  # x86, ARM


def _of_cpu(wanted: str) -> str | None:
    """What the kernel says of the first processor."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return None


def _host_id() -> str:
    """12 hex digits that are the same for the same machine with the same hardware.

    Its GPUs are not among it: NVML may lose one, and the machine stays the same. Rows name theirs.
    """
    hardware = [
        own_name(),
        _cpu_model(),
        os.cpu_count(),
        round(psutil.virtual_memory().total / 2**30),  # kernels differ in what they keep back
    ]
    text = "\0".join(str(part) for part in (SALT, *hardware))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def own_name() -> str:
    """What the machine is called by itself, and by no network.

    A container's host name is drawn anew for each one: there the kernel's own number counts, which
    lasts until the machine starts anew, unless the machine's file is mounted.
    """
    files = [MACHINE_ID]
    if packed():
        files.append(BOOT_ID)
    texts = (file.read_text(encoding="utf-8").strip() for file in files if file.is_file())
    return next(filter(None, texts), platform.node())


def _ask_git(*arguments: str) -> str | None:
    """Git's answer in the folder of our own files, None where it has none."""
    try:
        answer = subprocess.run(
            ["git", "-C", str(PACKAGE), *arguments],
            env=without_gits(os.environ),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
        )
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None


def this_room() -> Room:
    allowed = os.sched_getaffinity(0)
    cores = _cores(allowed)
    # Two cells that share a core slow each other down: second threads come last.
    ranked = sorted((rank, cpu) for core in cores for rank, cpu in enumerate(core))
    group, memory = Cgroup.of(os.getpid()), psutil.virtual_memory()
    quota = group.cpu_quota() if group else None
    limit = group.memory_limit_mib() if group else None
    left = group.memory_free_mib() if group else None
    return Room(
        cpus=tuple(cpu for _, cpu in ranked),
        cores=len(cores) if quota is None else max(1, min(len(cores), int(quota))),
        memory_gib=_at_most(memory.total / 2**30, limit),
        free_gib=_at_most(memory.available / 2**30, left),
        quota=quota,
    )


def _at_most(gib: float, limit_mib: float | None) -> float:
    return gib if limit_mib is None else min(gib, limit_mib / 1024)


def _cores(cpus: set[int]) -> list[list[int]]:
    """The CPUs of each core, as far as they are among these.

    A kernel that does not tell which CPUs are threads of one core has cores of one thread.
    """
    cores: dict[str, list[int]] = {}
    for cpu in sorted(cpus):
        file = CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        try:
            siblings = file.read_text(encoding="utf-8")
        except OSError:
            siblings = str(cpu)
        cores.setdefault(siblings, []).append(cpu)
    return list(cores.values())
