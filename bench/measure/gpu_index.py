"""A GPU's number, as the driver counts, for what names GPUs by it."""

import contextlib

import pynvml


def gpu_index(uuid: str) -> str | None:
    """ "1" for a GPU, "1:0" for a MIG instance of it; None if NVML lists no such one.

    NVML is to be there: the UUID is from it.
    """
    pynvml.nvmlInit()
    try:
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            if pynvml.nvmlDeviceGetUUID(handle) == uuid:
                return str(number)
            if uuid.startswith("MIG-") and (instance := _instance(handle, uuid)) is not None:
                return f"{number}:{instance}"
    finally:
        pynvml.nvmlShutdown()
    return None


def is_only_gpu(uuid: str) -> bool:
    """Whether NVML lists this GPU and no other; of an instance of one it is never so."""
    pynvml.nvmlInit()
    try:
        only: bool = pynvml.nvmlDeviceGetCount() == 1 and uuid == pynvml.nvmlDeviceGetUUID(
            pynvml.nvmlDeviceGetHandleByIndex(0)
        )
        return only
    finally:
        pynvml.nvmlShutdown()


def _instance(gpu: object, uuid: str) -> int | None:
    with contextlib.suppress(pynvml.NVMLError_NotSupported):  # a GPU without MIG
        for number in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with contextlib.suppress(pynvml.NVMLError_NotFound):  # a number without instance
                handle = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
                if pynvml.nvmlDeviceGetUUID(handle) == uuid:
                    return number
    return None
