"""Ctrl-C and SIGTERM, heard for as long as something runs."""

import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

from bench.launch.job import Stop


@contextmanager
def heard(note: Callable[[int], None]) -> Iterator[None]:
    """Tell `note` the signal's number in place of an exception anywhere; as before afterwards."""

    def handle(number: int, frame: FrameType | None) -> None:
        note(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def on_signal(stop: Stop) -> AbstractContextManager[None]:
    """Ctrl-C and SIGTERM set `stop` and nothing else: no row is torn by an exception."""
    return heard(lambda number: stop.set(f"stopped by {signal.Signals(number).name}", by_user=True))
