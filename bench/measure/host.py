"""Readings of the host while a cell runs: its processes, its CPUs, its control group."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.measure.cgroup import Cgroup

PROC = Path("/proc")
CPUS = Path("/sys/devices/system/cpu")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class HostSample:
    """One moment. Times are counters over the cell's CPUs together, in CPU seconds."""

    busy_s: float | None  # spent on anything at all, the cell included
    steal_s: float | None  # taken by the hypervisor
    cell_cpu_s: float | None  # spent on the cell
    throttled_s: float | None  # a quota kept the cell off its CPUs
    rss_mib: float | None  # of all its processes; pages that they share count for each
    swapped_mib: float | None  # of all its processes
    cgroup_peak_mib: float | None
    cpu_mhz: float | None  # mean over its CPUs
    load: float | None  # processes that run or want to, mean over the last minute


@dataclass(frozen=True)
class CellProcesses:
    """The processes of a cell, as this machine numbers them.

    They are those of a container's control group, or else a process and its descendants.
    """

    pid: int  # the first
    own_cgroup: Cgroup | None  # a group that holds this cell and nothing else
    shared_cgroup: Cgroup | None = None  # the group of a cell without one of its own

    def pids(self) -> set[int]:
        """Those that live now."""
        if self.own_cgroup is not None:
            return self.own_cgroup.pids()
        return {process.pid for process in self._tree()}

    def _tree(self) -> list[psutil.Process]:
        try:
            first = psutil.Process(self.pid)
            return [first, *first.children(recursive=True)]
        except psutil.Error:  # it has ended
            return []

    def cpu_s(self) -> float | None:
        """CPU time so far; of a tree, what its ended members had is in their parents' figures."""
        if self.own_cgroup is not None:
            return self.own_cgroup.cpu_s()
        spent = []
        for process in self._tree():
            try:
                spent.append(sum(process.cpu_times()[:4]))  # user, system, and of ended children
            except psutil.Error:
                continue
        return sum(spent) if spent else None


# Asked while a cell runs; None if this machine's kernel does not list its processes.
FindProcesses = Callable[[], CellProcesses | None]


def read_host(cpus: Sequence[int], cell: CellProcesses | None) -> HostSample:
    """A reading of now. What cannot be read is None; `cell` is None while it is not known."""
    busy_s, steal_s = _cpu_seconds(cpus)
    group = (cell.own_cgroup or cell.shared_cgroup) if cell else None
    own = cell.own_cgroup if cell else None
    rss_mib, swapped_mib = _memory_mib(cell.pids()) if cell else (None, None)
    return HostSample(
        busy_s=busy_s,
        steal_s=steal_s,
        cell_cpu_s=cell.cpu_s() if cell else None,
        throttled_s=group.throttled_s() if group else None,
        rss_mib=rss_mib,
        swapped_mib=swapped_mib,
        cgroup_peak_mib=own.memory_peak_mib() if own else None,
        cpu_mhz=_mhz(cpus),
        load=os.getloadavg()[0],
    )


def _cpu_seconds(cpus: Sequence[int]) -> tuple[float | None, float | None]:
    """(busy, stolen) since the machine started, by /proc/stat's lines for these CPUs."""
    try:
        lines = (PROC / "stat").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None, None
    wanted, busy, stolen = {f"cpu{cpu}" for cpu in cpus}, 0, 0
    for line in lines:
        name, *ticks = line.split()
        if name in wanted and len(ticks) >= 8:
            user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, ticks[:8])
            busy += user + nice + system + irq + softirq
            stolen += steal
            wanted.remove(name)
    return (None, None) if wanted else (busy / TICKS_PER_S, stolen / TICKS_PER_S)


def _memory_mib(pids: set[int]) -> tuple[float | None, float | None]:
    """(resident, swapped) of all these processes; None if none of them can be read."""
    sizes: dict[str, list[float]] = {"VmRSS": [], "VmSwap": []}
    for pid in pids:
        try:
            # A process may call itself anything, also what is no text.
            status = (PROC / str(pid) / "status").read_text("utf-8", errors="replace")
        except OSError:  # it has ended
            continue
        for line in status.split("\n"):  # the one separator that the kernel escapes in a name
            name, _, size = line.partition(":")
            if name in sizes:
                sizes[name].append(int(size.split()[0]) / 1024)
    resident, swapped = (sum(found) if found else None for found in sizes.values())
    return resident, swapped


def _mhz(cpus: Sequence[int]) -> float | None:
    """What the kernel's frequency driver says; a virtual machine often has none."""
    found = []
    for cpu in cpus:
        try:
            file = CPUS / f"cpu{cpu}" / "cpufreq" / "scaling_cur_freq"
            text = file.read_text(encoding="utf-8")
        except OSError:
            return None
        found.append(int(text) / 1000)
    return sum(found) / len(found) if found else None
