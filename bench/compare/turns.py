"""Whose turn it is: cells on several versions in a balanced order, one of them at a time."""

import contextlib
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.compare.sides import Side
from bench.errors import StoppedError
from bench.launch.baton import PASSED
from bench.launch.baton import VARIABLE as BATON
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


def in_order(cells: Sequence[Cell], sides: int, begin: int = 0) -> Iterator[tuple[Cell, Order]]:
    """Each cell, and in which order the sides run it: in turn within each arm, and from arm to arm.

    begin: how many cells of each arm ran before these.
    """
    all_orders = orders(sides)
    turns: dict[str, int] = {}  # by arm, of its latest cell
    for cell in cells:
        arm = cell.spec.arm_id
        turns[arm] = turns[arm] + 1 if arm in turns else begin + len(turns)
        yield cell, all_orders[turns[arm] % len(all_orders)]


@dataclass(frozen=True)
class Call:
    """One of a side's commands."""

    side: Side
    arguments: tuple[str, ...]


class _Begun(contextlib.AbstractContextManager["_Begun"]):
    """A command from its first turn on; the end of a `with` block waits for its end."""

    def __init__(self, asked: Call, environment: Mapping[str, str], in_turn: bool) -> None:
        self.end, theirs = socket.socketpair()
        self.end.settimeout(LISTEN_S)
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  # a pipe would want a reader
        named = {BATON: str(theirs.fileno())} if in_turn else {}
        with theirs:
            self.child = subprocess.Popen(
                asked.side.command(*asked.arguments),
                cwd=asked.side.root,
                env={**asked.side.environment(), **environment, **named},
                stdin=subprocess.DEVNULL,
                stdout=self._said,
                stderr=subprocess.STDOUT,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # it hears of Ctrl-C once, from us
            )

    def __exit__(self, *error: object) -> None:
        self.end.close()  # if it waits for its turn, it has it
        self.child.wait()
        self._said.close()

    def heard(self) -> bytes:
        """PASSED if it passes its turn on, nothing at its end.

        Raises:
            TimeoutError: if it does neither for LISTEN_S.
        """
        try:
            return self.end.recv(1)
        except ConnectionError:
            return b""

    @property
    def said(self) -> str:
        self._said.seek(0)
        return self._said.read().decode("utf-8", errors="replace")


@dataclass
class Turns:
    """Runs commands so that one computes at a time, and passes a signal on to all of them."""

    gpus: tuple[Gpu, ...] = ()  # of each cuda cell of all sides
    running: list[_Begun] = field(default_factory=list)
    stopped_by: int | None = None  # the signal

    @property
    def uuids(self) -> str:
        return ",".join(gpu.uuid for gpu in self.gpus)

    def run(self, side: Side, *arguments: str) -> tuple[int, str]:
        """(exit code, what it printed) of one of a side's commands."""
        return self.run_in_turn([Call(side, arguments)])[0]

    def run_in_turn(self, asked: Sequence[Call]) -> list[tuple[int, str]]:
        """The same of each of several, of which each goes on until it passes on or ends.

        One that knows nothing of turns passes on at its end alone.
        """
        environment = {VARIABLE: self.uuids} if self.gpus else {}
        to_begin, waiting = deque(asked), deque[_Begun]()
        with contextlib.ExitStack() as until_end:
            until_end.callback(self.running.clear)
            while to_begin or waiting:
                if to_begin and not self.stopped_by:
                    one = _Begun(to_begin.popleft(), environment, len(asked) > 1)
                    self.running.append(until_end.enter_context(one))
                elif waiting:
                    one = waiting.popleft()
                    with contextlib.suppress(OSError):  # it ended while it waited
                        one.end.send(PASSED)
                else:
                    raise StoppedError(GOES_ON)
                if self._listen(one):
                    waiting.append(one)
            for one in self.running:
                one.child.wait()
            ended = [(one.child.returncode, one.said) for one in self.running]
        if self.stopped_by or any(code == STOPPED for code, _ in ended):
            raise StoppedError(GOES_ON)
        return ended

    def _listen(self, one: _Begun) -> bool:
        """Whether it passed its turn on; else it has ended.

        Python hears of a signal that comes just before a blocking wait only after it; so does the
        child. A second one does no harm.
        """
        while True:
            try:
                return one.heard() == PASSED
            except TimeoutError:
                if self.stopped_by:
                    self.pass_on(self.stopped_by)

    def pass_on(self, number: int) -> None:
        self.stopped_by = number
        for one in self.running:
            if one.child.poll() is None:
                one.child.send_signal(number)
