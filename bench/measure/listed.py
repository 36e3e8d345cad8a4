"""Which GPUs NVML lists on this machine, and who computes on them now."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import pynvml

from bench.measure.gpu_reader import PATIENCE_S, processes_on
from bench.measure.gpus import Gpu, Gpus, WholeGpu
from bench.measure.packed import packed
from bench.measure.visible import VARIABLE, AmbiguousError, chosen

T = TypeVar("T")
# The driver's library comes into a container with the GPU.
IN_IMAGE = "start the container with one: --gpus all (podman: --device nvidia.com/gpu=all)"
RESET = "reset the GPU (nvidia-smi --gpu-reset), or restart the machine"
SILENT = f"NVML did not answer for {PATIENCE_S:g} s"


@cache
def find_gpus() -> Gpus:
    """Never raises and never hangs: a machine whose driver does still has CPUs to use."""
    return _patiently(_ask) or Gpus((), None, SILENT)


def _patiently(ask: Callable[[], T]) -> T | None:
    """The answer; None where NVML hangs."""
    found: list[T] = []
    thread = threading.Thread(target=lambda: found.append(ask()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return found[0] if found else None


def _ask() -> Gpus:
    try:
        pynvml.nvmlInit()
    except Exception as error:
        why = f"NVML finds no NVIDIA driver: {error}"
        return Gpus((), None, why, IN_IMAGE) if packed() else Gpus((), None, why)
    try:
        every = tuple(_whole(index) for index in range(pynvml.nvmlDeviceGetCount()))
        driver = pynvml.nvmlSystemGetDriverVersion()
        if not every:
            return Gpus((), driver, "the NVIDIA driver lists no GPU")
        return _ours(every, driver)
    except Exception as error:  # pynvml's are not all NVMLErrors
        return Gpus((), None, f"NVML fails: {error}")
    finally:
        _leave()


def _leave() -> None:
    with contextlib.suppress(pynvml.NVMLError):
        pynvml.nvmlShutdown()


def _whole(index: int) -> WholeGpu:
    """One that fails keeps its number, and the others are there all the same."""
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        mig, _ = _told(pynvml.nvmlDeviceGetMigMode, handle) or (None, None)  # now, after a reset
        virtualization = _told(pynvml.nvmlDeviceGetVirtualizationMode, handle)
        return WholeGpu(
            _gpu(handle),
            tuple(_instances(handle)) if mig == pynvml.NVML_DEVICE_MIG_ENABLE else None,
            virtual=virtualization == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU,
        )
    except Exception as error:  # as of `_ask`
        return WholeGpu(Gpu("", f"GPU {index}"), lost=str(error))


def _gpu(handle: Any) -> Gpu:
    return Gpu(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle))


def _told(call: Callable[[Any], T], handle: Any) -> T | None:
    """None where this GPU or driver knows nothing of the kind, or fails to tell."""
    try:
        return call(handle)
    except Exception:  # a GPU that is gone does not tell its UUID either
        return None


def _instances(handle: Any) -> Iterator[Gpu]:
    """Their numbers may have gaps, where one was destroyed."""
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
        with contextlib.suppress(pynvml.NVMLError_NotFound):
            yield _gpu(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))


def _ours(every: tuple[WholeGpu, ...], driver: str) -> Gpus:
    """Those that whoever called us may use."""
    lost = [whole for whole in every if whole.lost]
    gone = [whole.gpu for whole in lost]
    try:
        shown = tuple(gpu for gpu in chosen(every, os.environ) if gpu not in gone)
    except AmbiguousError as error:
        why, remedy = error.args
        return Gpus((), driver, why, remedy, every=every)
    hidden = [str(gpu) for whole in every for gpu in whole.parts if gpu not in shown]
    empty = [whole for whole in every if not whole.parts and whole not in lost]
    told = [f"{VARIABLE}={os.environ[VARIABLE]} leaves out {', '.join(hidden)}"] if hidden else []
    told += [f"{whole.gpu} is in MIG mode and has no instance" for whole in empty]
    told += map(str, lost)
    left_out = "; ".join(told)
    reason = None if shown else left_out
    remedy = f"change {VARIABLE}" if hidden else empty[0].mig_remedy if empty else RESET
    return Gpus(shown, driver, reason, remedy, left_out, every)


@dataclass(frozen=True)
class Use:
    """Who computes on a GPU at one moment."""

    gpu: Gpu
    processes: Mapping[int, float | None] | None  # pid -> MiB, None where not told; None: unlisted
    why: str = ""  # not listed

    @property
    def users(self) -> list[str]:
        return [
            f"pid {pid} ({'memory not told' if mib is None else f'{mib:.0f} MiB'})"
            for pid, mib in (self.processes or {}).items()
        ]

    def __str__(self) -> str:
        return f"{self.gpu} is used by {', '.join(self.users)}"


def who_computes(gpus: Sequence[Gpu]) -> list[Use]:
    """Of each GPU, now. Never raises and never hangs."""
    return _patiently(lambda: [_use(gpu) for gpu in gpus]) or [
        Use(gpu, None, SILENT) for gpu in gpus
    ]


def _use(gpu: Gpu) -> Use:
    try:
        pynvml.nvmlInit()
    except Exception as error:
        return Use(gpu, None, str(error))
    try:
        return Use(gpu, processes_on(pynvml.nvmlDeviceGetHandleByUUID(gpu.uuid)))
    except Exception as error:  # as of `find_gpus`
        return Use(gpu, None, str(error))
    finally:
        _leave()
