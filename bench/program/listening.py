"""A program from its start to its end, heard line by line."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

from bench.program.child import Child
from bench.program.lines import LineSplitter
from bench.program.output import OutputLog
from bench.program.reading import OutputReader, Record

SPEAK_S = 0.5  # between two words to the launching side
PATIENCE_S = 1.0  # of our own CPU time: no honest pattern takes it for a line
HEARD = ("step", "loss", "val_loss", "tokens_per_s")


class SlowPatternError(Exception):
    """A pattern takes too long for a line."""


class Listening:
    """Takes what a program prints to the log and to whoever wants to know what it tells."""

    def __init__(
        self, child: Child, reader: OutputReader, log: OutputLog, say: Callable[..., None]
    ) -> None:
        self.child = child
        self.reader = reader
        self.log = log
        self.splitter = LineSplitter()
        self._say = say
        self._known: dict[str, Any] = {}
        self._due: float | None = None  # when to speak; None: there is nothing to say
        self._spoke = 0.0

    def until_end(self, until: float = float("inf")) -> Iterator[tuple[str, Record, float]]:
        """Each line, what it tells, and when it came.

        Raises:
            SlowPatternError: when a pattern takes too long.
        """
        with patience(self.reader):
            while (data := self.child.read(self._wait_s(until))) is not None:
                at = time.monotonic()
                yield from self._take(data, at)
                if data and self._due is None:
                    self._due = self._spoke + SPEAK_S
                if self._due is not None and at >= self._due:
                    self._speak(at)
                if at >= until:
                    self.child.stop()
                    until = float("inf")
            for data in self.child.finish():
                yield from self._take(data, self.child.exited)
            for line in self.splitter.rest():
                yield self._read(line, self.child.exited)

    @property
    def stage(self) -> str:
        """What it does, as far as it tells."""
        return "train" if self._known else "start"

    def _wait_s(self, until: float) -> float | None:
        first = min(until, self._due if self._due is not None else until)
        return None if first == float("inf") else max(0.0, first - time.monotonic())

    def _take(self, data: bytes, at: float) -> Iterator[tuple[str, Record, float]]:
        self.log.write(data)
        for line in self.splitter.feed(data):
            yield self._read(line, at)

    def _read(self, line: str, at: float) -> tuple[str, Record, float]:
        record = self.reader.read(line)
        for name in HEARD:
            if (value := record.get(name)) is not None:
                self._known[name] = int(value) if name == "step" else value
        return line, record, at

    def _speak(self, at: float) -> None:
        self._due, self._spoke = None, at
        with suppress(OSError):  # it is gone, and so shall we be
            self._say(stage=self.stage, **self._known)


@contextmanager
def patience(reader: OutputReader) -> Iterator[None]:
    """A regular expression may take for ever; it hears signals meanwhile."""
    before = -1  # the line that was being read at the last signal

    def tick(number: int, frame: FrameType | None) -> None:
        nonlocal before
        if reader.trying is not None and reader.lines == before:
            raise SlowPatternError(
                f"the pattern {reader.trying.what!r} takes longer than {PATIENCE_S:g} s for a line"
                ": say more precisely what stands there, with no repetition within another one"
            )
        before = reader.lines if reader.trying is not None else -1

    signal.signal(signal.SIGVTALRM, tick)
    signal.setitimer(signal.ITIMER_VIRTUAL, PATIENCE_S, PATIENCE_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
