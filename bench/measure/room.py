"""How much of the machine this process may use: what decides how many cells run at once."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measure.cgroup import Cgroup

CPUS = Path("/sys/devices/system/cpu")


@dataclass(frozen=True)
class Room:
    """Counted in GiB. What a control group of ours forbids is not there for us."""

    cpus: tuple[int, ...]  # the first thread of every core before the second of any
    cores: int  # whole ones that may be busy at once; 1 at least
    memory_gib: float
    free_gib: float  # what is available of it
    quota: float | None = None  # CPUs' worth of time that our control group may take


def this_room() -> Room:
    allowed = os.sched_getaffinity(0)
    cores = _cores(allowed)
    group, memory = Cgroup.of(os.getpid()), psutil.virtual_memory()
    quota = group.cpu_quota() if group else None
    limit = group.memory_limit_mib() if group else None
    most_gib = limit / 1024 if limit is not None else float("inf")
    return Room(
        cpus=_by_core(cores),
        cores=len(cores) if quota is None else max(1, min(len(cores), int(quota))),
        memory_gib=min(memory.total / 2**30, most_gib),
        free_gib=min(memory.available / 2**30, most_gib),
        quota=quota,
    )


def _cores(cpus: set[int]) -> list[list[int]]:
    """The CPUs of each core, as far as they are among these.

    A kernel that does not tell which CPUs are threads of one core has cores of one thread.
    """
    cores: dict[str, list[int]] = {}
    for cpu in sorted(cpus):
        try:
            siblings = (CPUS / f"cpu{cpu}" / "topology" / "thread_siblings_list").read_text()
        except OSError:
            siblings = str(cpu)
        cores.setdefault(siblings, []).append(cpu)
    return list(cores.values())


def _by_core(cores: list[list[int]]) -> tuple[int, ...]:
    """Two cells that share a core slow each other down: their CPUs come last."""
    ranked = [(rank, cpu) for core in cores for rank, cpu in enumerate(core)]
    return tuple(cpu for _, cpu in sorted(ranked))
