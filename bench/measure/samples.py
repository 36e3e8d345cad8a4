"""samples.csv: the raw readings of a cell, so that a sceptic can retrace its figures."""

from collections.abc import Iterator, Sequence
from typing import Any

from bench.measure.figures import own_mib
from bench.measure.series import Span, inside
from bench.measure.watch import Readings

COLUMNS = (
    "time_s",  # since the launch
    "training",  # whether it lies in the training phase
    "gpu_used_mib",
    "gpu_own_mib",
    "gpu_processes",  # NVML's list, as pid:MiB; the cell's own marked by *
    "gpu_energy_j",
    "gpu_power_instant_w",
    "gpu_power_average_w",
    "gpu_util_pct",
    "sm_clock_mhz",
    "gpu_temp_c",
    "gpu_slowdowns",
    "cpu_busy_s",
    "cpu_steal_s",
    "cell_cpu_s",
    "throttled_s",
    "rss_mib",
    "swapped_mib",
    "cgroup_peak_mib",
    "cpu_clock_mhz",
    "load",
)


def rows(readings: Readings, launched: float, train: Sequence[Span]) -> Iterator[dict[str, Any]]:
    """In order of time. `launched`: a moment of CLOCK_MONOTONIC."""
    found = [*_gpu_rows(readings), *_host_rows(readings)]
    for at, row in sorted(found, key=lambda entry: entry[0]):
        yield {"time_s": round(at - launched, 4), "training": inside(train, at), **row}


def _gpu_rows(readings: Readings) -> Iterator[tuple[float, dict[str, Any]]]:
    for at, reading in readings.gpu:
        sample = reading.sample
        yield (
            at,
            {
                "gpu_used_mib": sample.used_mib,
                "gpu_own_mib": own_mib(reading),
                "gpu_processes": _processes(sample.processes, reading.own_pids),
                "gpu_energy_j": sample.energy_j,
                "gpu_power_instant_w": sample.power_instant_w,
                "gpu_power_average_w": sample.power_average_w,
                "gpu_util_pct": sample.utilisation_pct,
                "sm_clock_mhz": sample.sm_clock_mhz,
                "gpu_temp_c": sample.temperature_c,
                "gpu_slowdowns": _slowdowns(sample.slowdowns),
            },
        )


def _slowdowns(names: tuple[str, ...] | None) -> str | None:
    return None if names is None else " ".join(names) or "none"


def _processes(listed: dict[int, float | None] | None, own: frozenset[int]) -> str | None:
    if listed is None:
        return None
    parts = [
        f"{pid}{'*' if pid in own else ''}:{'' if size is None else f'{size:.0f}'}"
        for pid, size in sorted(listed.items())
    ]
    return " ".join(parts) or "none"


def _host_rows(readings: Readings) -> Iterator[tuple[float, dict[str, Any]]]:
    for at, sample in readings.host:
        yield (
            at,
            {
                "cpu_busy_s": sample.busy_s,
                "cpu_steal_s": sample.steal_s,
                "cell_cpu_s": sample.cell_cpu_s,
                "throttled_s": sample.throttled_s,
                "rss_mib": sample.rss_mib,
                "swapped_mib": sample.swapped_mib,
                "cgroup_peak_mib": sample.cgroup_peak_mib,
                "cpu_clock_mhz": sample.cpu_mhz,
                "load": sample.load,
            },
        )
