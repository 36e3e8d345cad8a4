"""How long work on a device takes."""

import time
from collections.abc import Callable

import torch

from bench.worker.clocks import synchronise


def microseconds(work: Callable[[], object], device: str = "cuda", times: int = 1) -> float:
    """Of one, with the device waited for at both edges."""
    synchronise(torch.device(device))
    begin = time.perf_counter()
    for _ in range(times):
        work()
    synchronise(torch.device(device))
    return (time.perf_counter() - begin) * 1e6 / times
