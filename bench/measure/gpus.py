"""The GPUs of this machine, as NVML lists them."""

import contextlib
import threading
from dataclasses import dataclass
from functools import cache

import pynvml


@dataclass(frozen=True)
class Gpu:
    uuid: str
    name: str


@dataclass(frozen=True)
class Gpus:
    """What NVML found, or why it found nothing."""

    gpus: tuple[Gpu, ...]
    driver_version: str | None
    reason: str | None  # None if there is a GPU

    @property
    def names(self) -> set[str]:
        return {gpu.name for gpu in self.gpus}


# A driver without a user starts anew, GPU by GPU, which takes seconds; one that has not answered
# after this long hangs, as it does when a GPU fell off its bus.
PATIENCE_S = 30.0


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
        return Gpus(gpus, driver, None if gpus else "the NVIDIA driver lists no GPU")
    except Exception as error:  # pynvml's are not all NVMLErrors
        return Gpus((), None, f"NVML fails: {error}")
    finally:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
