"""Several cells at once: how many, on which CPUs and GPUs each, and which run beside whom.

All cells of a matrix have the same limits, so that every slot fits every cell.
"""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from bench.border.options import Limits
from bench.errors import RequestError
from bench.measure.gpus import Gpu
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.statistics.text import counted


@dataclass(frozen=True)
class Slot:
    """A place where one cell at a time runs, with CPUs (and GPUs) of its own."""

    cpus: tuple[int, ...]
    gpus: tuple[Gpu, ...]


def choose_jobs(cells: Sequence[Cell], machine: Machine) -> tuple[int, str]:
    """(as many cells at once as go without disturbing each other, at least 1; why no more).

    CPUs are counted by whole cores: two threads of one slow each other down.
    """
    if not cells:
        return 1, "nothing is open"
    limits, room = cells[0].limits, machine.room
    cpus = _cpus(limits)
    most = [
        (len(cells), f"{counted(len(cells), 'cell')} open"),
        (room.cores // cpus, f"{counted(room.cores, 'core')} for {counted(cpus, 'CPU')} a cell"),
        (
            int(room.free_gib / limits.memory_gib),
            f"{room.free_gib:.1f} GiB free for {limits.memory_gib:g} GiB a cell",
        ),
    ]
    if each := gpus_each(cells):
        found = counted(len(machine.gpus.gpus), "GPU")
        why = f"{found} for {'one' if each == 1 else each} a cell{_left_out(machine)}"
        most.append((len(machine.gpus.groups(each)), why))
    jobs, why = min(most, key=lambda one: one[0])
    return max(1, jobs), why


def make_slots(jobs: int, cells: Sequence[Cell], machine: Machine) -> list[Slot]:
    """Disjoint CPUs for each of `jobs` cells at once, and as many GPUs as a cell needs.

    Raises:
        RequestError: if the machine has not enough of either, or of memory for several.
    """
    limits = cells[0].limits if cells else Limits()
    each, cpus, gpus = _cpus(limits), machine.room.cpus, gpus_each(cells)
    most = min(len(cpus), machine.room.quota or len(cpus))
    # One cell alone may be slow under a quota; several would take each other's time.
    if jobs * each > (most if jobs > 1 else len(cpus)):
        raise RequestError(
            f"--jobs {jobs} with limits.cpus {each} needs {jobs * each} CPUs; this process "
            f"may use {most:g}. Lower --jobs, limits.cpus or train.threads."
        )
    memory_gib = jobs * limits.memory_gib
    if jobs > 1 and memory_gib > machine.room.memory_gib:
        raise RequestError(
            f"--jobs {jobs} with limits.memory_gib {limits.memory_gib:g} may take {memory_gib:g} "
            f"GiB; here are {machine.room.memory_gib:.1f}. Lower --jobs or limits.memory_gib."
        )
    groups = machine.gpus.groups(gpus) if gpus else [()] * jobs
    if jobs > len(groups):
        needed = "as many GPUs" if gpus == 1 else f"{gpus} GPUs of one kind each"
        raise RequestError(
            f"{jobs} cuda cells at once need {needed}; "
            f"here are {len(machine.gpus.gpus)}{_left_out(machine)}. Lower --jobs."
        )
    return [Slot(cpus[i * each : (i + 1) * each], groups[i]) for i in range(jobs)]


def _left_out(machine: Machine) -> str:
    return f" ({machine.gpus.left_out})" if machine.gpus.left_out else ""


def _cpus(limits: Limits) -> int:
    return limits.cpus or 1


def gpus_each(cells: Iterable[Cell]) -> int:
    """How many GPUs are enough for any of them; 0: none needs one."""
    return max((cell.spec.gpus for cell in cells), default=0)


@dataclass
class _Running:
    cell: Cell
    slot: Slot
    since: float  # of CLOCK_MONOTONIC
    beside: set[str]  # run_ids of its neighbours so far, also of those that have ended


@dataclass
class Lanes:
    """A lane is a slot and the cell that runs there, if any."""

    waiting: list[Cell]
    slots: list[Slot]  # those that are free
    _running: dict[Future[list[dict[str, Any]]], _Running] = field(default_factory=dict)
    _retried: Counter[Cell] = field(default_factory=Counter)

    @property
    def may_launch(self) -> bool:
        return bool(self.slots and self.waiting)

    @property
    def futures(self) -> Iterable[Future[list[dict[str, Any]]]]:
        """Of the cells that run."""
        return self._running.keys()

    def next(self) -> tuple[Cell, Slot]:
        return self.waiting.pop(0), self.slots.pop(0)

    def launched(self, future: Future[list[dict[str, Any]]], cell: Cell, slot: Slot) -> None:
        others = {one.cell.spec.run_id for one in self._running.values()}
        for one in self._running.values():
            one.beside.add(cell.spec.run_id)
        self._running[future] = _Running(cell, slot, time.monotonic(), others)

    def ended(self, future: Future[list[dict[str, Any]]]) -> tuple[Cell, dict[str, Any]]:
        """The cell, and the columns of runs.csv that say beside whom it ran."""
        one = self._running.pop(future)
        self.slots.append(one.slot)
        beside = {"neighbours": len(one.beside), "neighbour_ids": " ".join(sorted(one.beside))}
        return one.cell, beside

    def again(self, cells: Sequence[Cell]) -> bool:
        """Whether limits.retries allows for another attempt, which is then the next to run.

        `cells`: those of one process, of which the first is launched.
        """
        if any(self._retried[cell] >= cell.limits.retries for cell in cells):
            return False
        self._retried.update(cells)
        self.waiting.insert(0, cells[0])
        return True

    def cells(self) -> list[Cell]:
        """All that have not ended."""
        return [*(one.cell for one in self._running.values()), *self.waiting]

    def left_s(self, takes_s: Callable[[Cell], float]) -> float:
        """Until all have ended, by what each takes from its launch; they are launched in order."""
        now = time.monotonic()
        left = [max(0.0, takes_s(one.cell) - (now - one.since)) for one in self._running.values()]
        free = sorted([*left, *(0.0 for _ in self.slots)])  # moments at which a lane is free
        for cell in self.waiting:
            heapq.heapreplace(free, free[0] + takes_s(cell))
        return max(free)
