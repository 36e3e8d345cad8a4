"""A results folder held for a run; Ctrl-C and SIGTERM end the wait for another runner."""

import select
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from bench.errors import StoppedError
from bench.launch.job import Stop
from bench.records.folder import ResultsFolder
from bench.records.hold import Hold, Newcomer
from bench.run.signals import on_signal


@contextmanager
def held(folder: ResultsFolder, waits: bool, say: Callable[[str], object]) -> Iterator[Hold]:
    """`waits`: for as long as another runner lives that holds it; it is told for whom.

    Raises:
        FolderError: if another holds it, and `waits` is false; if it cannot be written.
        StoppedError: if a signal ended the wait.
    """
    stop = Stop()

    def pause(seconds: float) -> bool:
        select.select([stop], [], [], seconds)
        return not stop.is_set

    with ExitStack() as holding:
        with on_signal(stop):
            hold = holding.enter_context(folder.locked(Newcomer(waits, say, pause)))
        if stop.is_set:
            raise StoppedError(f"{stop.why}; nothing was run")
        yield hold
