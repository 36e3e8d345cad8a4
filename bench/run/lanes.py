"""The cells of a run in its lanes: which wait, which run since when, and beside whom."""

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from bench.records.cells import Cell
from bench.run.attempt import Attempt
from bench.run.slots import Slot


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
    _running: dict[Future[Attempt], _Running] = field(default_factory=dict)
    _retried: Counter[Cell] = field(default_factory=Counter)

    @property
    def may_launch(self) -> bool:
        return bool(self.slots and self.waiting)

    @property
    def futures(self) -> Iterable[Future[Attempt]]:
        """Of the cells that run."""
        return self._running.keys()

    def next(self) -> tuple[Cell, Slot]:
        return self.waiting.pop(0), self.slots.pop(0)

    def launched(self, future: Future[Attempt], cell: Cell, slot: Slot) -> None:
        others = {one.cell.spec.run_id for one in self._running.values()}
        for one in self._running.values():
            one.beside.add(cell.spec.run_id)
        self._running[future] = _Running(cell, slot, time.monotonic(), others)

    def ended(self, future: Future[Attempt]) -> tuple[Cell, dict[str, Any]]:
        """The cell, and the columns of runs.csv that say beside whom it ran."""
        one = self._running.pop(future)
        self.slots.append(one.slot)
        beside = {"neighbours": len(one.beside), "neighbour_ids": " ".join(sorted(one.beside))}
        return one.cell, beside

    def again(self, cell: Cell) -> bool:
        """Whether limits.retries allows for another attempt, which is then the next to run."""
        if self._retried[cell] >= cell.limits.retries:
            return False
        self._retried[cell] += 1
        self.waiting.insert(0, cell)
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
