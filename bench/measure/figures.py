"""What was read during a cell -> its columns of runs.csv. Pure; an unknown figure is None."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from bench.measure.host import HostSample
from bench.measure.series import Series, Span, covers, increase, integral, length, mean, within
from bench.measure.watch import GpuReading, Readings

R = TypeVar("R")
T = TypeVar("T")

# NVML refreshes its energy counter every 20 to 100 ms, and we read it every 100 ms: over less than
# this the edges weigh over 1 % of the energy.
ENERGY_MIN_S = 10.0
# Evaluations cut training into spans, each with edges of its own: of shorter ones, the edges are
# over a tenth, and evaluation's power would be taken for training's.
ENERGY_SPAN_MIN_S = 1.0
# A host's counters are read once a second.
HOST_MIN_S = 1.0
HOST_GAP_S = 5.0  # on a machine so busy that we come late, a reading may
# NVML's figures come and go within a call: a reading below the idle one by less is none.
IDLE_MIB = 2.0


def gap_s(every_s: float) -> float:
    """Readings further apart than this tell nothing of what was between them."""
    return max(1.0, 5 * every_s)


@dataclass(frozen=True)
class Phases:
    """Where a cell's time went, by the worker's own stamps of CLOCK_MONOTONIC."""

    train: tuple[Span, ...] = ()
    # On CUDA: from when to when the device held the context and nothing else.
    context: Span | None = None
    in_turn: bool = False  # between its spans of training others trained on its CPUs


def columns(readings: Readings, phases: Phases) -> dict[str, Any]:
    return {
        **_gpu_memory(readings, phases),
        **_gpu_energy(readings, phases),
        **_gpu_state(readings, phases),
        **_gpu_settings(readings),
        **_host(readings, phases),
    }


def _gpu_memory(readings: Readings, phases: Phases) -> dict[str, Any]:
    """The cell's own processes where NVML tells their memory, else the device's above its idle."""
    source, taken = "process", known(readings.gpu, own_mib)
    if not taken:
        source, taken = "device_delta", _above_baseline_mib(readings)
    if not taken:
        return {}
    return {
        "gpu_mem_nvml_peak_mib": max(size for _, size in taken),
        "gpu_mem_source": source,
        "gpu_mem_context_mib": _of_context_mib(readings, phases, dict(taken)),
    }


def _of_context_mib(
    readings: Readings, phases: Phases, taken_mib: Mapping[float, float]
) -> float | None:
    """The last reading that began and ended while the device held the context and no more."""
    if phases.context is None:
        return None
    begin, end = phases.context
    found = [
        taken_mib[at]
        for at, reading in readings.gpu
        if at in taken_mib and begin <= at and at + reading.took_s <= end
    ]
    return found[-1] if found else None


def own_mib(reading: GpuReading) -> float | None:
    """GPU memory of the cell's own processes; None if NVML does not list them, or their sizes."""
    listed = reading.sample.processes or {}
    sizes = [size for pid in reading.own_pids if (size := listed.get(pid)) is not None]
    return sum(sizes) if sizes and len(sizes) == len(reading.own_pids) else None


def _above_baseline_mib(readings: Readings) -> list[tuple[float, float]]:
    """None of it where the device held less than before the cell: somebody else freed memory."""
    if readings.baseline is None or readings.baseline.sample.used_mib is None:
        return []
    idle = readings.baseline.sample.used_mib
    used = known(readings.gpu, lambda reading: reading.sample.used_mib)
    if any(size < idle - IDLE_MIB for _, size in used):
        return []
    return [(at, max(0.0, size - idle)) for at, size in used]


def _gpu_energy(readings: Readings, phases: Phases) -> dict[str, Any]:
    seconds = length(phases.train)
    if seconds < max(ENERGY_MIN_S, ENERGY_SPAN_MIN_S * len(phases.train)):
        return {}
    for source, total, of in _energies(readings):
        series = known(readings.gpu, of)
        if covers(series, phases.train, gap_s(readings.every_s)):
            energy_j = total(series, phases.train)
            if energy_j is not None:
                return {
                    "gpu_energy_j": energy_j,
                    "gpu_energy_source": source,
                    "gpu_power_mean_w": energy_j / seconds,
                }
    return {}


_Total = Callable[[Series[float], Sequence[Span]], float | None]
_Figure = Callable[[GpuReading], float | None]
_Energy = tuple[str, _Total, _Figure]
_COUNTER: _Energy = ("energy_counter", increase, lambda reading: reading.sample.energy_j)
_INSTANT: _Energy = ("power_instant", integral, lambda reading: reading.sample.power_instant_w)
_AVERAGE: _Energy = ("power_average", integral, lambda reading: reading.sample.power_average_w)


def _energies(readings: Readings) -> tuple[_Energy, ...]:
    """Sources of energy, best first.

    Where a module has a CPU beside the GPU, NVML's documentation does not say whose energy its
    counter holds; the instantaneous power is asked for by the scope of the GPU alone.
    """
    if readings.baseline and readings.baseline.settings.module_power_w is not None:
        _, total, of = _COUNTER
        return (_INSTANT, ("energy_counter_module", total, of))
    return (_COUNTER, _INSTANT, _AVERAGE)


def _gpu_state(readings: Readings, phases: Phases) -> dict[str, Any]:
    """Means over the training phase; the temperature's maximum over the cell's whole life.

    Of several GPUs, the clocks' range is over all of them, and a slowdown is of any.
    """

    def training(of: Callable[[GpuReading], T | None]) -> list[T]:
        series = known(readings.gpu, of)
        whole = covers(series, phases.train, gap_s(readings.every_s))
        return within(series, phases.train) if whole else []

    temperatures = known(readings.gpu, lambda reading: reading.sample.temperature_c)
    clocks_mhz = [mhz for clocks in training(_clocks_mhz) for mhz in clocks]
    return {
        "gpu_temp_max_c": max((value for _, value in temperatures), default=None),
        "gpu_util_mean_pct": mean(training(lambda reading: reading.sample.utilisation_pct)),
        "sm_clock_mean_mhz": mean(clocks_mhz),
        "sm_clock_min_mhz": min(clocks_mhz, default=None),
        "sm_clock_max_mhz": max(clocks_mhz, default=None),
        "gpu_slowdowns": _slowdowns(training(lambda reading: reading.sample.slowdowns)),
        "gpu_xids": _xids(readings),
    }


def _clocks_mhz(reading: GpuReading) -> list[float] | None:
    """Of each GPU."""
    told = [sample.sm_clock_mhz for sample in reading.samples]
    clocks_mhz = [mhz for mhz in told if mhz is not None]
    return clocks_mhz if len(clocks_mhz) == len(told) else None


def _xids(readings: Readings) -> str | None:
    """Of the cell's whole life, each as often as it came."""
    told = known(readings.gpu, lambda reading: reading.sample.xids)
    return " ".join(str(xid) for _, xids in told for xid in xids) or "none" if told else None


def _gpu_settings(readings: Readings) -> dict[str, Any]:
    """As they were just before the cell was launched."""
    if readings.baseline is None:
        return {}
    settings = readings.baseline.settings
    return {
        "gpu_power_limit_w": settings.power_limit_w,
        "gpu_power_default_w": settings.power_default_w,
        "gpu_app_clocks_set": settings.app_clocks_set,
    }


def _slowdowns(seen: Sequence[tuple[str, ...]]) -> str | None:
    """Each with its share of the readings; "none" if the GPU was never slowed down."""
    if not seen:
        return None
    counts = Counter(name for names in seen for name in names)
    parts = [f"{name} {percent(count / len(seen))}" for name, count in sorted(counts.items())]
    return "; ".join(parts) or "none"


def _host(readings: Readings, phases: Phases) -> dict[str, Any]:
    def largest(of: Callable[[HostSample], float | None]) -> float | None:
        return max((value for _, value in known(readings.host, of)), default=None)

    def training(of: Callable[[HostSample], float | None]) -> float | None:
        return mean(within(known(readings.host, of), phases.train))

    percent_of = {cause: 100 * share for cause, share in host_rates(readings, phases).items()}
    return {
        "host_tree_rss_peak_mib": largest(lambda sample: sample.rss_mib),
        "cgroup_mem_peak_mib": largest(lambda sample: sample.cgroup_peak_mib),
        "host_load_mean": training(lambda sample: sample.load),
        "cpu_clock_mean_mhz": training(lambda sample: sample.cpu_mhz),
        "cpu_steal_pct": percent_of.get("cpu_steal"),
        "cpu_others_pct": percent_of.get("cpu_others"),
        "cpu_throttled_pct": percent_of.get("cgroup_throttled"),
    }


def host_rates(readings: Readings, phases: Phases) -> Mapping[str, float]:
    """Shares of the CPU time of the training phase that the cell did not get, by who took it.

    Only those that are known, and none for a training phase that was over before counters moved.
    """
    cpu_s = length(phases.train) * readings.n_cpus
    if length(phases.train) < HOST_MIN_S:
        return {}
    grown = {name: _grown(known(readings.host, of), phases) for name, of in _COUNTERS.items()}
    busy, cell = grown["busy"], grown["cell"]
    shares: dict[str, float | None] = {
        "cpu_steal": grown["steal"],
        "cgroup_throttled": grown["throttled"],
        "cpu_others": busy - cell if busy is not None and cell is not None else None,
    }
    if phases.in_turn:  # counters read once a second cannot tell whose slice it was
        del shares["cpu_others"]
    return {
        name: min(1.0, max(0.0, seconds / cpu_s))
        for name, seconds in shares.items()
        if seconds is not None
    }


def _grown(series: Series[float], phases: Phases) -> float | None:
    return increase(series, phases.train) if covers(series, phases.train, HOST_GAP_S) else None


_COUNTERS: dict[str, Callable[[HostSample], float | None]] = {
    "busy": lambda sample: sample.busy_s,
    "steal": lambda sample: sample.steal_s,
    "cell": lambda sample: sample.cell_cpu_s,
    "throttled": lambda sample: sample.throttled_s,
}


def known(readings: Series[R], of: Callable[[R], T | None]) -> list[tuple[float, T]]:
    """One figure of each reading, where it was told."""
    found = ((at, of(reading)) for at, reading in readings)
    return [(at, value) for at, value in found if value is not None]


def percent(share: float) -> str:
    """42%, 3.1%, 0.4%, 0.0028%: one reading of an hour's 36,000 is not "0.0%"."""
    digits = 0 if share >= 0.1 else 1 if share >= 0.001 or share == 0 else 4
    return f"{100 * share:.{digits}f}%"
