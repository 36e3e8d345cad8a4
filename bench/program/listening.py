"""A program from its start to its end, heard line by line."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from bench.program.child import Child, Chunks
from bench.program.lines import LineSplitter
from bench.program.output import OutputLog
from bench.program.patience import patience
from bench.program.reading import OutputReader, Record

SPEAK_S = 0.5  # between two words to the launching side
HEARD = ("step", "loss", "val_loss", "tokens_per_s")


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
        self._spoke = 0.0
        self._heard = False  # anything since
        self._at = 0.0  # the moment of the last line

    @property
    def stage(self) -> str:
        """What it does, as far as it tells."""
        return "train" if self._known else "start"

    def until_end(self, until: float = math.inf) -> Iterator[tuple[str, Record, float]]:
        """Each line, what it tells, and when it came. `until`: when it is stopped.

        Raises:
            SlowPatternError: when a pattern takes too long.
        """
        with patience(self.reader):
            while not self.child.ended:
                yield from self._take(self.child.read(min(until, time.monotonic() + SPEAK_S)))
                self._speak(time.monotonic())
                if time.monotonic() >= until:
                    self.child.stop()
                    until = math.inf
            yield from self._take(self.child.finish())
            yield from self._read(self.splitter.rest())

    def _take(self, chunks: Chunks) -> Iterator[tuple[str, Record, float]]:
        self.log.write(b"".join(data for _, data in chunks))
        self._heard |= bool(chunks)
        for at, data in chunks:
            self._at = max(self._at, at)  # it may have ended before we came to read
            yield from self._read(self.splitter.feed(data))

    def _read(self, lines: list[str]) -> Iterator[tuple[str, Record, float]]:
        for line in lines:
            record = self.reader.read(line)
            for name in HEARD:
                if (value := record.get(name)) is not None:
                    self._known[name] = int(value) if name == "step" else value
            yield line, record, self._at

    def _speak(self, now: float) -> None:
        if self._heard and now >= self._spoke + SPEAK_S:
            self._heard, self._spoke = False, now
            with suppress(OSError):  # nobody hears us, and so we shall end
                self._say(stage=self.stage, **self._known)
