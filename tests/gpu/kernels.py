"""What the GPU does in a step that is part of a graph: `python -m tests.gpu.kernels [ARM...]`.

An arm is `nanogpt+truemuon`, all four where none is named. Of each: how many kernels a step is, how
long at least one of them ran, how long a step took with torch's profiler watching and without, and
all kernels by name, those that took longest first. Copies and fills count as kernels.
"""

import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

from torch.autograd import DeviceType
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from bench.border.options import FIRST_STEPS
from bench.worker.graphs import StepsOnDevice
from tests.builders.twins import ARMS
from tests.gpu.timing import as_in_cells, microseconds
from tests.perf.arms import Ours

TOGETHER = 10  # steps of the graph
STEPS = 50  # that are watched
WIDEST = 110  # characters of a name


@dataclass(frozen=True)
class Kernel:
    """All launches of one kernel."""

    name: str
    launches: int
    time_us: float


@dataclass(frozen=True)
class Seen:
    """What a device did while it was watched."""

    kernels: list[Kernel]  # those that took longest first
    busy_us: float  # in which at least one ran
    time_us: float  # of the work; watching takes some of it

    @property
    def launches(self) -> int:
        return sum(kernel.launches for kernel in self.kernels)


def main(*arms: str, device: str = "cuda", steps: int = STEPS) -> None:
    for model, optimizer in map(split, arms or ("+".join(arm) for arm in ARMS)):
        for line in report(model, optimizer, device, steps):
            print(line, flush=True)


def split(arm: str) -> tuple[str, str]:
    model, _, optimizer = arm.partition("+")
    if (model, optimizer) not in ARMS:
        known = ", ".join("+".join(each) for each in ARMS)
        raise SystemExit(f"no arm is named {arm}: {known}")
    return model, optimizer


def report(model: str, optimizer: str, device: str, steps: int) -> Iterator[str]:
    """The lines for one arm; figures are of a step."""
    as_in_cells(device)
    on_device = Ours(model, optimizer, device).on_device(TOGETHER)
    deque(on_device.run(FIRST_STEPS), maxlen=0)
    on_device.capture()
    work = partial(replay, on_device, steps)
    alone_us = microseconds(work, device)
    yield from table(f"{model}+{optimizer}", watched(work, device), steps, alone_us)


def replay(captured: StepsOnDevice, steps: int) -> None:
    """So many steps, on the first of the table's batches."""
    captured.place.zero_()
    deque(captured.run(steps), maxlen=0)


def table(arm: str, seen: Seen, steps: int, alone_us: float) -> Iterator[str]:
    """alone_us: how long so many steps take that nobody watches."""
    yield (
        f"{arm}: {seen.launches / steps:.0f} kernels a step, busy {seen.busy_us / steps:.0f} us of "
        f"{seen.time_us / steps:.0f} us a step while watched, {alone_us / steps:.0f} us otherwise"
    )
    for kernel in seen.kernels:
        yield (
            f"{kernel.time_us / steps:9.1f} us {kernel.launches / steps:7.2f} x  "
            f"{short(kernel.name)}"
        )


def watched(work: Callable[[], object], device: str) -> Seen:
    """What this work has the device do, by torch's profiler."""
    on_cpu = device == "cpu"
    activity, kind = (
        (ProfilerActivity.CPU, DeviceType.CPU)
        if on_cpu
        else (ProfilerActivity.CUDA, DeviceType.CUDA)
    )
    with profile(activities=[activity], acc_events=True) as profiler:  # of one cycle, all the same
        time_us = microseconds(work, device)
    events = [event for event in profiler.events() if event.device_type == kind]
    return Seen(by_name(events), busy_us(events), time_us)


def by_name(events: Iterable[FunctionEvent]) -> list[Kernel]:
    """Those that took longest first. Names are whole here: templates tell kernels apart."""
    times_us: dict[str, list[float]] = {}
    for event in events:
        took_us = event.time_range.end - event.time_range.start
        times_us.setdefault(event.name, []).append(took_us)
    kernels = [Kernel(name, len(times), sum(times)) for name, times in times_us.items()]
    return sorted(kernels, key=lambda kernel: -kernel.time_us)


def busy_us(events: Iterable[FunctionEvent]) -> float:
    """In which at least one ran."""
    busy, until = 0.0, 0.0
    for begin, end in sorted((each.time_range.start, each.time_range.end) for each in events):
        busy += max(0.0, end - max(begin, until))
        until = max(until, end)
    return busy


def short(name: str) -> str:
    """A kernel's name without namespaces, parameters and lambdas, cut to one line."""
    name = re.sub(r"^void |\(anonymous namespace\)::", "", name)
    while (fewer := re.sub(r"\([^()]*\)", "", name)) != name:  # parentheses within parentheses
        name = fewer
    name = re.sub(r"(::operator)?::\{lambda[^}]*\}|\b\w+::", "", name).replace(" >", ">").strip()
    return name if len(name) <= WIDEST else name[: WIDEST - 3] + "..."


if __name__ == "__main__":
    main(*sys.argv[1:])
