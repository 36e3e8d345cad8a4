"""A limit for patterns that take for ever: a regular expression hears signals meanwhile."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.program.reading import OutputReader

PATIENCE_S = 1.0  # of our own CPU time: no honest pattern takes it for a line


class SlowPatternError(Exception):
    """A pattern takes too long for a line."""


@contextmanager
def patience(reader: OutputReader) -> Iterator[None]:
    """
    Raises:
        SlowPatternError: in the block, while `reader` reads, once a line takes too long.
    """
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
