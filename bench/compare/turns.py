"""Whose turn it is: cells on several versions in a balanced order, one command at a time."""

import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from bench.compare.sides import Side
from bench.errors import StoppedError
from bench.measure.gpus import Gpu
from bench.measure.visible import VARIABLE
from bench.records.cells import Cell

STOPPED = 130
LISTEN_S = 1.0
GOES_ON = "interrupted; the same command goes on where it stopped."

Order = tuple[int, ...]  # numbers of sides


def orders(sides: int) -> tuple[Order, ...]:
    """Orders of so many sides, to be taken in turn: whoever runs later may find a processor hot.

    Over all of them each side is equally often at each place, and each is equally often right
    before each other: Williams, "Experimental designs balanced for the estimation of residual
    effects of treatments" (1949).
    """
    zigzag = [(place + 1) // 2 * (1 if place % 2 else -1) for place in range(sides)]
    rows = [tuple((side + shift) % sides for side in zigzag) for shift in range(sides)]
    if sides % 2:
        rows += [row[::-1] for row in rows]
    return tuple(rows)


def in_turn(cells: Sequence[Cell], sides: int, begin: int = 0) -> Iterator[tuple[Cell, Order]]:
    """Each cell, and in which order the sides run it: in turn within each arm, and from arm to arm.

    begin: how many cells of each arm ran before these.
    """
    all_orders = orders(sides)
    turns: dict[str, int] = {}  # by arm, of its latest cell
    for cell in cells:
        arm = cell.spec.arm_id
        turns[arm] = turns[arm] + 1 if arm in turns else begin + len(turns)
        yield cell, all_orders[turns[arm] % len(all_orders)]


@dataclass
class Turns:
    """Runs one command at a time, and passes a signal on to it."""

    gpus: tuple[Gpu, ...] = ()  # of each cuda cell of all sides
    child: subprocess.Popen[str] | None = None
    stopped_by: int | None = None  # the signal

    @property
    def uuids(self) -> str:
        return ",".join(gpu.uuid for gpu in self.gpus)

    def run(self, side: Side, *arguments: str) -> tuple[int, str]:
        """(exit code, what it printed) of one of a side's commands."""
        if self.stopped_by:
            raise StoppedError(GOES_ON)
        with subprocess.Popen(
            side.command(*arguments),
            cwd=side.root,
            env=side.environment() | ({VARIABLE: self.uuids} if self.gpus else {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # it hears of Ctrl-C once, from us
        ) as self.child:
            said = self._listen(self.child)
            code = self.child.returncode
        if self.stopped_by or code == STOPPED:
            raise StoppedError(GOES_ON)
        return code, said

    def _listen(self, child: subprocess.Popen[str]) -> str:
        """What it prints until it ends.

        Python hears of a signal that comes just before a blocking wait only after it; so does the
        child. A second one does no harm.
        """
        while True:
            try:
                return child.communicate(timeout=LISTEN_S)[0]
            except subprocess.TimeoutExpired:
                if self.stopped_by:
                    child.send_signal(self.stopped_by)

    def pass_on(self, number: int) -> None:
        self.stopped_by = number
        if self.child is not None and self.child.poll() is None:
            self.child.send_signal(number)
