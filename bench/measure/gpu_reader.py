"""What NVML tells of one GPU, or of an instance of one, reading by reading.

Any of its calls may be unsupported, fail half-way or hang.

Sources: NVML's API reference for units and meaning of each call.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import pynvml

from bench.measure.gpus import INSTANCE

T = TypeVar("T")
MIB = 2**20

# Bits of nvmlDeviceGetCurrentClocksEventReasons that slow a GPU down, by the names NVML gives them.
SLOWDOWNS = {
    0x0000000000000004: "sw_power_cap",
    0x0000000000000008: "hw_slowdown",
    0x0000000000000020: "sw_thermal_slowdown",
    0x0000000000000040: "hw_thermal_slowdown",
    0x0000000000000080: "hw_power_brake_slowdown",
}

# What a GPU, a driver or a virtual machine cannot tell at all: asked once.
FOR_GOOD = (
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
)
# The GPU or its driver is gone; later calls may hang.
GONE = (
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
)
# An instance (MIG) has these in common with its neighbours: whatever a driver answers, it is no
# figure of the instance.
OF_A_WHOLE = (
    *("utilisation", "sm_clock", "temperature", "slowdowns", "app_clocks", "xids"),
    *("energy", "power_instant", "power_average", "power_limit", "power_default", "module_power"),
)
# A driver without a user starts anew, GPU by GPU, which takes seconds; one that has not answered
# after this long hangs, as it does when a GPU fell off its bus.
PATIENCE_S = 30.0

# A field of nvmlDeviceGetFieldValues is of the GPU alone unless it is asked for the whole module,
# which on GH200, GB200 and GB300 has a CPU as well (nvml.h: NVML_POWER_SCOPE_MODULE).
SCOPE_MODULE = 1


@dataclass(frozen=True)
class GpuSample:
    """One moment. None: not told."""

    used_mib: float | None  # of the whole device
    processes: dict[int, float | None] | None  # that compute on it: pid -> MiB
    energy_j: float | None  # counter since the driver was loaded
    power_instant_w: float | None
    power_average_w: float | None  # over the last second on Ampere and later
    utilisation_pct: float | None  # of the last sample period with any kernel running
    sm_clock_mhz: float | None
    temperature_c: float | None
    slowdowns: tuple[str, ...] | None  # names as in SLOWDOWNS
    xids: tuple[int, ...] | None = None  # the driver's reports of errors since the last reading


NOTHING = GpuSample(None, None, None, None, None, None, None, None, None)


@dataclass(frozen=True)
class GpuSettings:
    """What somebody set, or left as it was. None: not told."""

    power_limit_w: float | None = None  # enforced
    power_default_w: float | None = None
    # Whether application clocks differ from their default. NVML has no word about clocks that
    # `nvidia-smi -lgc` locked.
    app_clocks_set: bool | None = None
    # Of the GPU with all else on its module; only where such a module has a CPU, say.
    module_power_w: float | None = None


class GpuReader:
    """NVML's readings of one GPU, found by its UUID.

    `reasons` says why some are missing; `lost`, why the GPU is gone that had answered before.
    """

    def __init__(self, uuid: str) -> None:
        self.uuid = uuid
        self.reasons: dict[str, str] = {}
        self.lost: str | None = None
        self._answered = False
        self._unknown: str | None = None  # an "unknown error" of this reading
        self._events: Any = None
        self._off: set[str] = set()
        if uuid.startswith(INSTANCE):
            self._off |= {*OF_A_WHOLE}
            why = "it is the whole GPU's, and this is an instance of one (MIG)"
            self.reasons |= dict.fromkeys(OF_A_WHOLE, why)
        self._gone = False
        self._open = False
        self._handle = self._try("device", lambda: self._start(uuid))
        self._gone = self._handle is None
        self._events = self._read("xids", _xid_events)

    def _start(self, uuid: str) -> Any:
        pynvml.nvmlInit()
        self._open = True
        return pynvml.nvmlDeviceGetHandleByUUID(uuid)

    def close(self) -> None:
        if self._open:
            self._open = False
            with contextlib.suppress(pynvml.NVMLError):
                if self._events is not None:
                    pynvml.nvmlEventSetFree(self._events)
                pynvml.nvmlShutdown()

    def settings(self) -> GpuSettings:
        enforced = self._read("power_limit", pynvml.nvmlDeviceGetEnforcedPowerLimit)
        default = self._read("power_default", pynvml.nvmlDeviceGetPowerManagementDefaultLimit)
        return GpuSettings(
            power_limit_w=_divided(enforced, 1000),
            power_default_w=_divided(default, 1000),
            app_clocks_set=self._read("app_clocks", _app_clocks_set),
            module_power_w=_divided(self._read("module_power", _module_power_mw), 1000),
        )

    def read(self) -> GpuSample:
        """A reading of now; all None once the GPU is gone."""
        self._unknown = None
        sample = self._sample()
        # One call may fail by a quirk. All of them at once do where a container lost its devices
        # to a reload of systemd, or a driver its GPU.
        nothing = replace(sample, xids=None) == NOTHING
        if nothing and self._answered and self._unknown and not self._gone:
            self._lose(self._unknown)
        self._answered |= not nothing
        return sample

    def _sample(self) -> GpuSample:
        xids = self._xids()  # first: it tells why the GPU may be gone for the others
        memory = self._read("memory", pynvml.nvmlDeviceGetMemoryInfo)
        utilisation = self._read("utilisation", pynvml.nvmlDeviceGetUtilizationRates)
        energy_mj = self._read("energy", pynvml.nvmlDeviceGetTotalEnergyConsumption)
        average_mw = self._read("power_average", pynvml.nvmlDeviceGetPowerUsage)
        return GpuSample(
            xids=xids,
            used_mib=memory.used / MIB if memory else None,
            processes=self._read("processes", processes_on),
            energy_j=_divided(energy_mj, 1000),
            power_instant_w=_divided(self._read("power_instant", _power_instant_mw), 1000),
            power_average_w=_divided(average_mw, 1000),
            utilisation_pct=float(utilisation.gpu) if utilisation else None,
            sm_clock_mhz=self._read("sm_clock", _sm_clock_mhz),
            temperature_c=self._read("temperature", _temperature_c),
            slowdowns=self._read("slowdowns", _slowdowns),
        )

    def _xids(self) -> tuple[int, ...] | None:
        if self._events is None:
            return None
        return self._try("xids", lambda: tuple(_new_xids(self._events)))

    def _lose(self, why: str) -> None:
        self.reasons.setdefault("device", why)
        self._gone = True
        if self._answered:
            self.lost = why

    def _read(self, name: str, call: Callable[[Any], T]) -> T | None:
        return self._try(name, lambda: call(self._handle))

    def _try(self, name: str, call: Callable[[], T]) -> T | None:
        if self._gone or name in self._off:
            return None
        try:
            return call()
        except pynvml.NVMLError as error:
            at = self._note(name, str(error))
            if error.value in FOR_GOOD:
                self._off.add(name)
            elif error.value in GONE:
                self._lose(at)
            elif error.value == pynvml.NVML_ERROR_UNKNOWN:
                self._unknown = at
        except Exception as error:
            # Where an older driver lacks a version of a call, pynvml raises an error that is no
            # NVMLError; neither that nor a mistake of pynvml's may end a run.
            self._note(name, f"{type(error).__name__}: {error}")
            self._off.add(name)
        return None

    def _note(self, name: str, why: str) -> str:
        """Keep the first reason for each name, with its moment."""
        at = f"{why} (at {time.monotonic():.3f} s of CLOCK_MONOTONIC)"
        self.reasons.setdefault(name, at)
        return at


def processes_on(handle: Any) -> dict[int, float | None]:
    listed = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return {process.pid: _divided(process.usedGpuMemory, MIB) for process in listed}


def _xid_events(handle: Any) -> Any:
    """A set that gathers the GPU's Xids from now on."""
    events = pynvml.nvmlEventSetCreate()
    try:
        pynvml.nvmlDeviceRegisterEvents(handle, pynvml.nvmlEventTypeXidCriticalError, events)
    except pynvml.NVMLError:
        pynvml.nvmlEventSetFree(events)
        raise
    return events


def _new_xids(events: Any) -> Iterator[int]:
    while True:
        try:
            yield int(pynvml.nvmlEventSetWait_v2(events, 0).eventData)
        except pynvml.NVMLError_Timeout:  # there is none more
            return


def _app_clocks_set(handle: Any) -> bool:
    clock = pynvml.NVML_CLOCK_SM
    now = pynvml.nvmlDeviceGetApplicationsClock(handle, clock)
    return bool(now != pynvml.nvmlDeviceGetDefaultApplicationsClock(handle, clock))


def _module_power_mw(handle: Any) -> int | None:
    """None where the GPU is no part of such a module, which most are not."""
    asked = [(pynvml.NVML_FI_DEV_POWER_INSTANT, SCOPE_MODULE)]
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, asked)
    told = field.nvmlReturn == pynvml.NVML_SUCCESS
    return int(field.value.uiVal) or None if told else None


def _power_instant_mw(handle: Any) -> int:
    (field,) = pynvml.nvmlDeviceGetFieldValues(handle, [pynvml.NVML_FI_DEV_POWER_INSTANT])
    if field.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(field.nvmlReturn)
    return int(field.value.uiVal)


def _sm_clock_mhz(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))


def _temperature_c(handle: Any) -> float:
    return float(pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU))


def _slowdowns(handle: Any) -> tuple[str, ...]:
    try:
        bits = pynvml.nvmlDeviceGetCurrentClocksEventReasons(handle)
    except pynvml.NVMLError_FunctionNotFound:  # a driver from before the new name
        bits = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    return tuple(name for bit, name in SLOWDOWNS.items() if bits & bit)


def _divided(value: float | None, by: float) -> float | None:
    return value / by if value is not None else None
