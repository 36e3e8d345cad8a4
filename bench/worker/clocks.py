"""Where the time went: one clock for phases, one for training steps.

Both read CLOCK_MONOTONIC, which the launching side shares, and wait for the device first.
"""

import math
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from bench.border.spec import PHASES

# On CUDA a sample of step times spans at least so long: recording an event takes some 5 us of the
# host, which a shorter sample would feel.
SAMPLE_MS = 1.0


def synchronise(device: torch.device) -> None:
    """Wait until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class PhaseClock:
    """Charges time to named phases; what is in no phase is charged to none."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self.carried_s = 0.0  # of `seconds`, what earlier attempts took
        self.spans: list[tuple[str, float, float]] = []  # (phase, begin, end), for the samplers
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
            end = time.monotonic()
            self.seconds[phase] += end - begin
            self._extend(phase, begin, end)

    def carry(self, phase: str, seconds: float) -> None:
        """Charge what an earlier attempt took, from which this one goes on."""
        self.seconds[phase] += seconds
        self.carried_s += seconds

    def _extend(self, phase: str, begin: float, end: float) -> None:
        """Spans of one phase in a row are one: between them the worker only spoke."""
        if self.spans and self.spans[-1][0] == phase:
            begin = self.spans.pop()[1]
        self.spans.append((phase, begin, end))


@dataclass(frozen=True)
class StepSample:
    """The time of one or more training steps in a row."""

    last_step: int  # from 0
    steps: int
    time_ms: float  # of all of them


class StepTimer:
    """Raw times of training steps.

    sampled: the host's clock on a CPU; on CUDA events on the stream, read once a span is over, so
    that the loop never waits for the device. every: the device is waited for after each step. off:
    no times.
    """

    def __init__(self, device: torch.device, timing: str = "sampled") -> None:
        self.device = device
        self.timing = timing
        self.by_events = device.type == "cuda" and timing == "sampled"
        self.samples: list[StepSample] = []
        self.steps = 0  # all that ended, timed or not
        self._stride = 1  # steps a sample
        self._stamps: list[int] = []  # nanoseconds
        self._events: list[torch.cuda.Event] = []
        self._marked: list[int] = []  # self.steps at each stamp or event

    def begin_span(self) -> None:
        """Call before the first step of a span."""
        if self.timing != "off":
            self._mark()

    def steps_done(self, steps: int = 1) -> None:
        """Call after each step, or after each launch of several."""
        self.steps += steps
        if self.timing == "every":
            synchronise(self.device)
        if self.timing != "off" and self.steps - self._marked[-1] >= self._stride:
            self._mark()

    def mark_rest(self) -> None:
        """Call right after the last step of a span, before anybody waits for the device."""
        if self.timing != "off" and self._marked[-1] < self.steps:
            self._mark()

    def end_span(self) -> None:
        """Call after a span, also after one that failed; waits for the device."""
        if self.timing == "off":
            return
        self.mark_rest()
        synchronise(self.device)
        times_ms = self._times_ms()
        for begin, end, time_ms in zip(self._marked, self._marked[1:], times_ms, strict=False):
            self.samples.append(StepSample(end - 1, end - begin, time_ms))
        if self.by_events and times_ms:
            one_ms = sum(times_ms) / (self._marked[-1] - self._marked[0])
            self._stride = max(1, math.ceil(SAMPLE_MS / max(one_ms, 1e-6)))
        for marks in (self._marked, self._stamps, self._events):
            marks.clear()

    def _mark(self) -> None:
        self._marked.append(self.steps)
        if self.by_events:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
            self._events.append(event)
        else:
            self._stamps.append(time.monotonic_ns())

    def _times_ms(self) -> list[float]:
        events = zip(self._events, self._events[1:], strict=False)
        stamps = zip(self._stamps, self._stamps[1:], strict=False)
        return [
            *(begin.elapsed_time(end) for begin, end in events),
            *((end - begin) / 1e6 for begin, end in stamps),
        ]
