"""Where the time went: one clock for phases, one for training steps.

Both read CLOCK_MONOTONIC, which the launching side shares, and wait for the device first.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.spec import PHASES


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PhaseClock:
    """Charges time to named phases; what is in no phase is charged to none."""

    def __init__(self, started: float) -> None:
        self.started = started  # seconds of CLOCK_MONOTONIC
        self.seconds: dict[str, float] = defaultdict(float)
        self.phase = "import"  # what the worker was doing last, for the row's `stage`
        self.device = torch.device("cpu")

    @contextmanager
    def during(self, phase: str, since: float | None = None) -> Iterator[None]:
        """Charge the block to `phase`; the device is waited for at both edges."""
        assert phase in PHASES, phase
        self.phase = phase
        synchronise(self.device)
        begin = time.monotonic() if since is None else since
        try:
            yield
            synchronise(self.device)
        finally:
            self.seconds[phase] += time.monotonic() - begin


class StepTimer:
    """Raw times of training steps, without waiting for the device between them.

    On CUDA each step is bracketed by events on the stream, read once the span is over.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_cuda = device.type == "cuda"
        self.times_ms: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self._stamps: list[int] = []

    def mark(self) -> None:
        """Call before the first step of a span and after each step."""
        if self.on_cuda:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._stamps.append(time.monotonic_ns())

    def end_span(self) -> None:
        """Call after the span, once the device has been waited for."""
        pairs = zip(self._events, self._events[1:], strict=False)
        self.times_ms += [begin.elapsed_time(end) for begin, end in pairs]
        stamps = zip(self._stamps, self._stamps[1:], strict=False)
        self.times_ms += [(end - begin) / 1e6 for begin, end in stamps]
        self._events.clear()
        self._stamps.clear()
