"""samples.csv: the raw readings of a cell, so that a sceptic can retrace its figures."""

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any

from bench.measure.figures import own_mib
from bench.measure.host import HostSample
from bench.measure.series import Span, inside
from bench.measure.watch import GpuReading, Readings


def _processes(reading: GpuReading) -> str | None:
    listed = reading.sample.processes
    if listed is None:
        return None
    parts = [
        f"{pid}{'*' if pid in reading.own_pids else ''}:{'' if size is None else f'{size:.0f}'}"
        for pid, size in sorted(listed.items())
    ]
    return " ".join(parts) or "none"


def _slowdowns(reading: GpuReading) -> str | None:
    names = reading.sample.slowdowns
    return None if names is None else " ".join(names) or "none"


def _xids(reading: GpuReading) -> str | None:
    found = reading.sample.xids
    return None if found is None else " ".join(map(str, found)) or "none"


_OF_GPU: dict[str, Callable[[GpuReading], Any]] = {
    "gpu_used_mib": attrgetter("sample.used_mib"),
    "gpu_own_mib": own_mib,
    "gpu_processes": _processes,  # NVML's list, as pid:MiB; the cell's own marked by *
    "gpu_energy_j": attrgetter("sample.energy_j"),
    "gpu_power_instant_w": attrgetter("sample.power_instant_w"),
    "gpu_power_average_w": attrgetter("sample.power_average_w"),
    "gpu_util_pct": attrgetter("sample.utilisation_pct"),
    "sm_clock_mhz": attrgetter("sample.sm_clock_mhz"),
    "gpu_temp_c": attrgetter("sample.temperature_c"),
    "gpu_slowdowns": _slowdowns,
    "gpu_xids": _xids,
}
_OF_HOST: dict[str, Callable[[HostSample], Any]] = {
    "cpu_busy_s": attrgetter("busy_s"),
    "cpu_steal_s": attrgetter("steal_s"),
    "cell_cpu_s": attrgetter("cell_cpu_s"),
    "throttled_s": attrgetter("throttled_s"),
    "rss_mib": attrgetter("rss_mib"),
    "swapped_mib": attrgetter("swapped_mib"),
    "cgroup_peak_mib": attrgetter("cgroup_peak_mib"),
    "cpu_clock_mhz": attrgetter("cpu_mhz"),
    "load": attrgetter("load"),
}

# When it was read, since the launch; whether that lies in the training phase; which of the cell's
# GPUs it is of, from 0; what was read.
COLUMNS = ("time_s", "training", "gpu", *_OF_GPU, *_OF_HOST)


def rows(readings: Readings, launched: float, train: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """In order of time. `launched`: a moment of CLOCK_MONOTONIC."""
    found: list[tuple[float, dict[str, Any]]] = [
        (at, {"gpu": number, **{name: of(one) for name, of in _OF_GPU.items()}})
        for at, reading in readings.gpu
        for number, one in enumerate(reading.each)
    ]
    found += [(at, {name: of(one) for name, of in _OF_HOST.items()}) for at, one in readings.host]
    for at, row in sorted(found, key=lambda entry: entry[0]):
        yield {"time_s": round(at - launched, 4), "training": inside(train, at), **row}
