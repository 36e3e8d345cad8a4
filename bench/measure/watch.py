"""Readings of one cell from outside, taken in a thread of their own while it runs."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from bench.measure.gpu_reader import NOTHING, PATIENCE_S, GpuReader, GpuSample, GpuSettings
from bench.measure.gpu_sum import as_one
from bench.measure.host import CellProcesses, FindProcesses, HostSample, read_host

SAMPLE_MS = 100  # between two readings of the GPU, unless asked otherwise
# Between two readings of the host, whose list of processes takes milliseconds to walk.
HOST_EVERY_S = 1.0

# Stages whose first word calls for a reading at once: the device holds its context and nothing
# else; training is over; all that was held is still held.
AT_ONCE = ("data", "infer", "teardown")

# Of a worker that has not opened its device, or could not.
BEFORE_DEVICE = ("import", "teardown")

# Asking an engine for a cell's processes takes tens of milliseconds; where it cannot tell, it never
# will, but for the moment in which the container comes to be.
FIND_TRIES = 3


@dataclass(frozen=True)
class GpuBaseline:
    """The cell's GPUs, as one, just before the cell was launched."""

    sample: GpuSample
    settings: GpuSettings


@dataclass(frozen=True)
class GpuReading:
    """A sample of each of the cell's GPUs, and which of their processes are the cell's."""

    samples: tuple[GpuSample, ...]
    own_pids: frozenset[int]
    took_s: float = 0.0

    @cached_property
    def sample(self) -> GpuSample:
        """Of all of them, as one."""
        return as_one(self.samples)

    @property
    def each(self) -> "list[GpuReading]":
        """Of each GPU by itself."""
        return [
            GpuReading((sample,), self.own_pids.intersection(sample.processes or ()), self.took_s)
            for sample in self.samples
        ]


@dataclass
class Readings:
    """All that was read from outside during one cell. Moments are of CLOCK_MONOTONIC."""

    every_s: float  # 0: nothing was to be read
    n_cpus: int
    on_gpu: bool = False  # whether the cell has any
    gpu: list[tuple[float, GpuReading]] = field(default_factory=list)
    host: list[tuple[float, HostSample]] = field(default_factory=list)
    baseline: GpuBaseline | None = None
    found: CellProcesses | None = None  # the cell's processes, as our kernel numbers them
    reasons: dict[str, str] = field(default_factory=dict)  # why something was not read
    # A GPU had answered and then was gone: NVML's words, and when.
    lost: str | None = None
    # Whether the worker has opened its device: then classes that a matrix brings may have spoken.
    opened_device: bool = False


class Watch:
    """Reads while the `with` block runs: one baseline before, a last reading after.

    Waits are blocking; a reading that comes late is not made up for. All of it happens in one
    thread, so that what fails or hangs there is a reason in `readings`, and the cell goes on.
    """

    def __init__(
        self,
        gpu_uuids: tuple[str, ...],
        cpus: Sequence[int],
        every_s: float,
        on_event: Callable[[dict[str, Any]], None] = lambda event: None,
    ) -> None:
        self.readings = Readings(every_s, len(cpus), on_gpu=bool(gpu_uuids))
        self._on_event = on_event
        self._gpu_uuids = gpu_uuids
        self._cpus = cpus
        self._find: FindProcesses | None = None
        self._tries_left = FIND_TRIES
        self._spoken = False
        self._ended = False
        self._gpu_due = self._host_due = time.monotonic()  # moments of the next readings
        self._wake = threading.Event()
        self._ready = threading.Event()  # the baseline has been read
        self._gpus: list[GpuReader] = []
        self._asked_at: float | None = None  # while NVML is asked
        self._baseline = GpuBaseline(NOTHING, GpuSettings())
        self._listed_before: set[int] = set()
        self._own_pids: set[int] = set()
        self._thread = threading.Thread(
            target=partial(self._guard, "samples", self._read_on), name="samples", daemon=True
        )

    def __enter__(self) -> "Watch":
        if not self.readings.every_s:
            self.readings.reasons["samples"] = "not read: --sample-ms 0"
            return self
        self._thread.start()
        if not self._ready.wait(PATIENCE_S):
            self.readings.reasons["baseline"] = f"NVML did not answer for {PATIENCE_S:g} s"
        if self._gpu_uuids:
            self.readings.baseline = self._baseline  # what comes later is none: the cell is there
        return self

    def __exit__(self, *error: object) -> None:
        if not self.readings.every_s:
            return
        self._ended = True
        self._wake.set()
        self._thread.join(PATIENCE_S)
        reasons = self.readings.reasons
        if self._thread.is_alive():
            reasons["samples"] = f"the last reading has not come back for {PATIENCE_S:g} s"
        for gpu in self._gpus:
            which = f" {gpu.uuid}" if len(self._gpus) > 1 else ""
            # A copy: a call that comes back now may add another.
            reasons |= {f"gpu{which} {k}": why for k, why in gpu.reasons.copy().items()}
            if gpu.lost:
                self.readings.lost = f"{which} {gpu.lost}".strip()
        self.readings.lost = self.readings.lost or self._hangs()
        if self.readings.found is None:
            reasons.setdefault("processes", "the cell's processes were not found on this host")

    def _hangs(self) -> str | None:
        """Why GPUs count as lost whose driver answered until then; None if it does answer."""
        since = self._asked_at  # once: the thread may set it
        if since is None or not self._thread.is_alive() or not self.readings.gpu:
            return None
        return f"NVML has not answered since {since:.3f} s of CLOCK_MONOTONIC"

    def started(self, find: FindProcesses) -> None:
        self._find = find

    def event(self, event: dict[str, Any]) -> None:
        """The worker spoke."""
        self._spoken = True
        self.readings.opened_device |= event.get("stage") not in BEFORE_DEVICE
        if event.get("stage") in AT_ONCE:
            self._gpu_due = self._host_due = time.monotonic()
            self._wake.set()
        self._on_event(event)

    def _guard(self, name: str, read: Callable[[], None]) -> None:
        """An error of a reading is a reason why it is missing; it ends nothing else."""
        try:
            read()
        except Exception as error:
            self.readings.reasons.setdefault(name, f"{type(error).__name__}: {error}")

    def _read_on(self) -> None:
        try:
            if self._gpu_uuids:
                self._gpus = [GpuReader(uuid) for uuid in self._gpu_uuids]
                samples = [gpu.read() for gpu in self._gpus]
                settings = [gpu.settings() for gpu in self._gpus]
                self._baseline = GpuBaseline(as_one(samples), as_one(settings))
            self._ready.set()
            self._read_until_ended()
        finally:
            self._ready.set()
            for gpu in self._gpus:
                gpu.close()

    def _read_until_ended(self) -> None:
        while True:
            ended = self._ended  # before the reading, so that one is made after the end
            self._guard("processes", self._look_for_processes)
            if self._gpus and (ended or time.monotonic() >= self._gpu_due):
                self._gpu_due = max(self._gpu_due + self.readings.every_s, time.monotonic())
                self._guard("gpu samples", self._read_gpus)
            if ended or time.monotonic() >= self._host_due:
                self._host_due = max(self._host_due + HOST_EVERY_S, time.monotonic())
                self._guard("host samples", self._read_host)
            if ended:
                return
            due = min(self._host_due, self._gpu_due) if self._gpus else self._host_due
            self._wake.wait(due - time.monotonic())
            self._wake.clear()

    def _look_for_processes(self) -> None:
        if self.readings.found is None and self._spoken and self._find and self._tries_left:
            self._tries_left -= 1
            self.readings.found = self._find()

    def _read_gpus(self) -> None:
        at = time.monotonic()  # before, so that nothing from before a phase counts as within it
        self._asked_at = at
        samples = tuple(gpu.read() for gpu in self._gpus)
        self._asked_at = None
        took_s = time.monotonic() - at
        own = self._own({pid for sample in samples for pid in sample.processes or ()})
        self.readings.gpu.append((at, GpuReading(samples, frozenset(own), took_s)))

    def _own(self, listed: set[int]) -> set[int]:
        """Which of these processes are the cell's.

        A walk through the machine's processes takes milliseconds: only for those not seen before.
        """
        found = self.readings.found
        if found is not None and not listed <= self._listed_before:
            cell = found.pids()
            self._own_pids |= listed & cell
            if cell:  # else it has ended, or could not be read just now
                self._listed_before |= listed
        return listed & self._own_pids

    def _read_host(self) -> None:
        at = time.monotonic()
        self.readings.host.append((at, read_host(self._cpus, self.readings.found)))
