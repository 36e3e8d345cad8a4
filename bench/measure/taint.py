"""What disturbed a cell's timings from outside, as far as the readings tell. Pure.

Heat and power that a cell needs itself are its own outcome and no taint, nor is the drift of its
step times. Each cause comes with its share of the training phase where it has one.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

from bench.measure.figures import HOST_GAP_S, HOST_MIN_S, Phases, gap_s, host_rates, known, percent
from bench.measure.series import Series, covers, length, share, within
from bench.measure.watch import GpuBaseline, Readings

T = TypeVar("T")

# What a hypervisor takes slows a cell down by that share; our own measuring may cost 1 %, and what
# is below that cannot be told from it.
STEAL_SHARE = 0.01
# Other processes on the cell's CPUs: on a quiet machine the harness and the kernel's housekeeping
# were seen to take 0.0 to 0.2 %; ten times that is somebody else.
OTHERS_SHARE = 0.02
# A quota of the control group stops a cell for tens of milliseconds at a time: any is too much,
# but a counter may have moved by one period just outside.
THROTTLED_SHARE = 0.005
# Heat outlasts its cause: a GPU that is held back for it before the cell starts was heated by
# somebody else.
HEAT = ("sw_thermal_slowdown", "hw_thermal_slowdown")
# The board's power supply or the system around it pulled a brake, whatever the cell does.
BRAKES = ("hw_power_brake_slowdown",)
# NVML counts a process's pages in whole MiB, torch in bytes.
ROUNDING_MIB = 2.0


@dataclass(frozen=True)
class Cause:
    """What may have disturbed the cell."""

    name: str
    held: bool | None  # None: it could not be checked
    detail: str = ""  # the share of the training phase, or why it could not be checked


@dataclass(frozen=True)
class Taint:
    causes: tuple[Cause, ...]

    @property
    def tainted(self) -> bool | None:
        """None if nothing at all could be checked."""
        held = [cause.held for cause in self.causes if cause.held is not None]
        return any(held) if held else None

    @property
    def reasons(self) -> str | None:
        """For example "cpu_steal 3.1%; gpu_foreign_process 42%"."""
        found = [f"{cause.name} {cause.detail}" for cause in self.causes if cause.held]
        return "; ".join(found) or None

    @property
    def unchecked(self) -> str | None:
        found = [f"{cause.name} ({cause.detail})" for cause in self.causes if cause.held is None]
        return "; ".join(found) or None


def judge(readings: Readings, phases: Phases, row: Mapping[str, Any]) -> Taint:
    """Every cause that is looked for. `row`: memory by NVML and by torch, as in runs.csv."""
    causes = [*_cpu(readings, phases), _swap(readings, phases), *_gpu(readings, phases, row)]
    if times := row.get("resumed"):  # the readings are of its last attempt alone
        causes.append(Cause("resumed", True, "once" if times == 1 else f"{times} times"))
    return Taint(tuple(causes))


def _cpu(readings: Readings, phases: Phases) -> Iterator[Cause]:
    limits = {
        "cpu_steal": STEAL_SHARE,
        "cpu_others": OTHERS_SHARE,
        "cgroup_throttled": THROTTLED_SHARE,
    }
    rates = host_rates(readings, phases)
    for name, limit in limits.items():
        if name in rates:
            yield Cause(name, rates[name] > limit, percent(rates[name]))
        else:
            yield Cause(name, None, _why_unknown(readings, phases))


def _why_unknown(readings: Readings, phases: Phases) -> str:
    if not readings.every_s:
        return "nothing was sampled"
    if length(phases.train) < HOST_MIN_S:
        return f"the training phase is shorter than {HOST_MIN_S:g} s"
    if readings.found is None:
        return "the cell's processes were not found on this host"
    if phases.in_turn:
        return "it trained in turn with others on its CPUs"
    return "the host does not tell it all through training"


def _swap(readings: Readings, phases: Phases) -> Cause:
    swapped = known(readings.host, lambda sample: sample.swapped_mib)
    why_unknown = _why_unknown(readings, phases)
    return _of_readings("swap", swapped, phases, HOST_GAP_S, lambda size: size > 0, why_unknown)


def _of_readings(
    name: str,
    series: Series[T],
    phases: Phases,
    longest_gap_s: float,
    holds: Callable[[T], bool],
    why_unknown: str,
) -> Cause:
    """A cause that held or not at each reading; one that held is told even by a few of them."""
    held = share(within(series, phases.train), holds)
    if held:
        return Cause(name, True, percent(held))
    if held is None or not covers(series, phases.train, longest_gap_s):
        return Cause(name, None, why_unknown)
    return Cause(name, False)


def _gpu(readings: Readings, phases: Phases, row: Mapping[str, Any]) -> Iterator[Cause]:
    if not readings.on_gpu:
        return
    if readings.baseline is None:
        yield Cause("gpu_foreign_process", None, "nothing was sampled")
        yield Cause("gpu_slowdown", None, "nothing was sampled")
        return
    yield _foreign(readings, readings.baseline, phases)
    yield from _slowdown(readings, readings.baseline, phases)
    yield from _inconsistent(row)


def _foreign(readings: Readings, idle: GpuBaseline, phases: Phases) -> Cause:
    """Another process on the cell's GPU.

    Where NVML lists none of the cell's processes, a process that it lists may be the cell's under
    another number: only one that was there before the cell is certainly foreign.
    """
    name = "gpu_foreign_process"
    own = set[int]().union(*(reading.own_pids for _, reading in readings.gpu))
    before = set(idle.sample.processes or ())
    cause = _of_readings(
        name,
        known(readings.gpu, lambda reading: reading.sample.processes),
        phases,
        gap_s(readings.every_s),
        lambda listed: bool(set(listed) - own if own else set(listed) & before),
        "NVML did not list processes all through training",
    )
    if cause.held is False and not own:
        return Cause(name, None, "NVML lists no process that is known to be the cell's")
    return cause


def _slowdown(readings: Readings, idle: GpuBaseline, phases: Phases) -> Iterator[Cause]:
    told = known(readings.gpu, lambda reading: reading.sample.slowdowns)
    seen = {name for names in within(told, phases.train) for name in names}
    names = [*BRAKES]
    if set(HEAT) & set(idle.sample.slowdowns or ()):
        names += HEAT
    # Older drivers tell only that the hardware slowed down, and none of its reasons.
    if not seen & {*HEAT, *BRAKES}:
        names.append("hw_slowdown")
    if _limit_lowered(idle):
        names.append("sw_power_cap")
    why_unknown = "NVML did not tell clocks event reasons all through training"
    longest_gap_s = gap_s(readings.every_s)
    for name in names:
        has = partial(_names, name)
        yield _of_readings(f"gpu_{name}", told, phases, longest_gap_s, has, why_unknown)
    settings = idle.settings
    if "sw_power_cap" in seen and None in (settings.power_limit_w, settings.power_default_w):
        yield Cause("gpu_sw_power_cap", None, "NVML does not tell whether the limit was lowered")


def _names(name: str, slowdowns: tuple[str, ...]) -> bool:
    return name in slowdowns


def _limit_lowered(idle: GpuBaseline) -> bool:
    """Below its default, a power cap is somebody's setting; at it, normal operation."""
    limit, default = idle.settings.power_limit_w, idle.settings.power_default_w
    return limit is not None and default is not None and limit < default


def _inconsistent(row: Mapping[str, Any]) -> Iterator[Cause]:
    """NVML's peak holds all that torch reserved, and that all that it allocated."""
    chain = ("gpu_mem_nvml_peak_mib", "gpu_mem_reserved_peak_mib", "gpu_mem_allocated_peak_mib")
    told = [(name, row[name]) for name in chain if row.get(name) is not None]
    for (outer, more), (inner, less) in pairwise(told):
        detail = f"({outer} {more:.0f} < {inner} {less:.0f})"
        yield Cause("gpu_memory_inconsistent", more + ROUNDING_MIB < less, detail)
