"""What the kernel's accounts say of a cell's control group: version 1 and version 2."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
MOUNT = Path("/sys/fs/cgroup")
MIB = 2**20


@dataclass(frozen=True)
class Cgroup:
    """Folders of one group. Every figure is None where the kernel does not give it."""

    memory: Path
    cpu: Path
    cpuacct: Path

    @classmethod
    def of(cls, pid: int) -> "Cgroup | None":
        """The group of a process; None if it has ended, or its folders are not in our view."""
        try:
            lines = (PROC / str(pid) / "cgroup").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        paths: dict[str, str] = {}
        for line in lines:
            _, controllers, path = line.split(":", 2)
            paths |= dict.fromkeys(controllers.split(","), path)
        memory, cpu, cpuacct = (_folder(paths, name, pid) for name in ("memory", "cpu", "cpuacct"))
        if memory is None or cpu is None or cpuacct is None:
            return None
        return cls(memory, cpu, cpuacct)

    def pids(self) -> set[int]:
        """Processes in it, as this machine numbers them."""
        return set(map(int, _read(self.memory / "cgroup.procs").split()))

    def memory_peak_mib(self) -> float | None:
        """Peak of memory that was charged to it, page cache included."""
        # version 2 (Linux 5.19 and later), version 1
        text = _read(self.memory / "memory.peak", self.memory / "memory.max_usage_in_bytes")
        return int(text) / MIB if text else None

    def cpu_s(self) -> float | None:
        """Processor time of all that ever ran in it."""
        if text := _read(self.cpuacct / "cpuacct.usage"):
            return int(text) / 1e9
        micro = _entry(self.cpu / "cpu.stat", "usage_usec")
        return micro / 1e6 if micro is not None else None

    def throttled_s(self) -> float | None:
        """Time for which a quota kept it off its CPUs; quotas of the groups above it as well.

        The sum over its CPUs. None if no group in our view is accounted for.
        """
        found = _upwards(self.cpu, _throttled_s)
        return sum(found) if found else None

    def memory_limit_mib(self) -> float | None:
        """What its processes may hold together, by the groups above it as well; None: no limit."""
        return min(_upwards(self.memory, _memory_limit_mib), default=None)

    def memory_free_mib(self) -> float | None:
        """What its processes may still take, by the groups above it as well; None: no limit."""
        return min(_upwards(self.memory, _memory_free_mib), default=None)

    def cpu_quota(self) -> float | None:
        """CPUs' worth of time that it may take, by the groups above it as well; None: no quota."""
        return min(_upwards(self.cpu, _cpu_quota), default=None)


def _folder(paths: dict[str, str], controller: str, pid: int) -> Path | None:
    """Version 1 mounts a tree a controller; version 2 has one tree, whose entry has no name.

    Where both are mounted, that one tree lies in a folder beside those of version 1.

    A container may have the host's path and a part of the host's tree: its own group is mounted as
    the root. Then the group is where an end of the path leads, and it lists the process.
    """
    if controller in paths:
        path, roots = paths[controller], [controller, "cpu,cpuacct", "cpuacct,cpu"]
    else:
        path, roots = paths.get("", ""), ["", "unified"]
    names = Path(path).parts[1:]
    if not path or ".." in names:
        return None
    for root in roots:
        for start in range(len(names) + 1):
            folder = MOUNT.joinpath(root, *names[start:])
            listed = folder / "cgroup.procs"
            if listed.exists() if start == 0 else str(pid) in _read(listed).split():
                return folder
    return None


def _upwards(folder: Path, of: Callable[[Path], float | None]) -> list[float]:
    """A figure of a group and of those above it, as far as they are in our view and tell it."""
    groups = (group for group in (folder, *folder.parents) if group.is_relative_to(MOUNT))
    return [value for group in groups if (value := of(group)) is not None]


def _memory_limit_mib(folder: Path) -> float | None:
    """Without a limit, version 2 says "max", and version 1 a number beyond all memory.

    Version 2 has a second one: above "high", processes are not killed but slowed to a crawl.
    """
    texts = (_read(folder / f"memory.{name}") for name in ("max", "high", "limit_in_bytes"))
    return min((int(text) / MIB for text in texts if text.isdecimal()), default=None)


def _memory_free_mib(folder: Path) -> float | None:
    """All but what is in use; that includes files read a while ago, which the kernel gives up.

    The kubelet counts likewise: what it calls the working set leaves out `inactive_file`.
    """
    limit_mib = _memory_limit_mib(folder)
    text = _read(folder / "memory.current", folder / "memory.usage_in_bytes")  # versions 2 and 1
    if limit_mib is None or not text.isdecimal():
        return limit_mib
    stat = folder / "memory.stat"
    old_files = _entry(stat, "total_inactive_file") or _entry(stat, "inactive_file") or 0
    return max(0.0, limit_mib - (int(text) - old_files) / MIB)


def _cpu_quota(folder: Path) -> float | None:
    """Version 2 has "max 100000" where there is none, version 1 a quota of -1."""
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    if not quota:
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def _throttled_s(folder: Path) -> float | None:
    for name, per_s in (("throttled_time", 1e9), ("throttled_usec", 1e6)):  # versions 1 and 2
        if (value := _entry(folder / "cpu.stat", name)) is not None:
            return value / per_s
    return None


def _entry(file: Path, name: str) -> int | None:
    for line in _read(file).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _read(*files: Path) -> str:
    """The first of them that can be read; empty if there is none."""
    for file in files:
        try:
            return file.read_text(encoding="utf-8").strip()
        except OSError:
            continue
    return ""
