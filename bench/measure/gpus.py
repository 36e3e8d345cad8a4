"""The GPUs of this machine, as NVML lists them."""

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


@cache
def find_gpus() -> Gpus:
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
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
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError) as error:
        return Gpus((), None, f"NVML fails: {error}")
    finally:
        pynvml.nvmlShutdown()
