"""What NVML tells of this machine: its GPUs, and which of them are for us.

Any of its calls may be unsupported, fail half-way or hang.
"""

import contextlib
import os
import threading
from dataclasses import dataclass
from functools import cache

import pynvml

from bench.measure.visible import VARIABLE, AmbiguousError, chosen

# A driver without a user starts anew, GPU by GPU, which takes seconds; one that has not answered
# after this long hangs, as it does when a GPU fell off its bus.
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Gpu:
    uuid: str
    name: str

    def __str__(self) -> str:
        return f"{self.name} ({self.uuid})"


@dataclass(frozen=True)
class Gpus:
    """What NVML found and CUDA_VISIBLE_DEVICES leaves to us, or why there is nothing."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    reason: str | None  # None if there is a GPU
    remedy: str = "run where nvidia-smi lists one"  # if there is none
    left_out: str = ""  # which GPUs of the machine are not for us, and by what

    @property
    def names(self) -> set[str]:
        return {gpu.name for gpu in self.gpus}


@cache
def find_gpus() -> Gpus:
    """Never raises and never hangs: a machine whose driver does still has CPUs to use."""
    found: list[Gpus] = []
    thread = threading.Thread(target=lambda: found.append(_ask()), daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    return found[0] if found else Gpus((), None, f"NVML did not answer for {PATIENCE_S:g} s")


def _ask() -> Gpus:
    try:
        pynvml.nvmlInit()
    except Exception as error:
        return Gpus((), None, f"NVML finds no NVIDIA driver: {error}")
    try:
        handles = [
            pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount())
        ]
        gpus = tuple(
            Gpu(pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle))
            for handle in handles
        )
        driver = pynvml.nvmlSystemGetDriverVersion()
        return _ours(gpus, driver) if gpus else Gpus((), driver, "the NVIDIA driver lists no GPU")
    except Exception as error:  # pynvml's are not all NVMLErrors
        return Gpus((), None, f"NVML fails: {error}")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def _ours(gpus: tuple[Gpu, ...], driver: str) -> Gpus:
    """Those that whoever called us may use."""
    uuids, names = [gpu.uuid for gpu in gpus], [gpu.name for gpu in gpus]
    try:
        shown = [gpus[index] for index in chosen(uuids, names, os.environ)]
    except AmbiguousError as error:
        return Gpus((), driver, *error.args)
    hidden = ", ".join(str(gpu) for gpu in gpus if gpu not in shown)
    left_out = f"{VARIABLE}={os.environ[VARIABLE]} leaves out {hidden}" if hidden else ""
    reason = None if shown else left_out
    return Gpus(tuple(shown), driver, reason, f"change {VARIABLE}", left_out)
