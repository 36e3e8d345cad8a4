"""How long work on a device takes, done as cells do it."""

import time
from collections.abc import Callable

import torch

from bench.worker.clocks import synchronise
from bench.worker.graphs import stream


def as_in_cells(device: str) -> None:
    """From here on this process computes where graphs are captured, as a cell does that has any."""
    if device == "cuda":
        torch.cuda.set_stream(stream())


def microseconds(work: Callable[[], object], device: str = "cuda", times: int = 1) -> float:
    """Of one, with the device waited for at both edges."""
    synchronise(torch.device(device))
    begin = time.perf_counter()
    for _ in range(times):
        work()
    synchronise(torch.device(device))
    return (time.perf_counter() - begin) * 1e6 / times
