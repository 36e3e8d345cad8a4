"""A worker does not outlive its runner, however that one ends.

The runner holds the other end of our standard input, and tells us there when it is our turn, if we
train in turn with others. When it dies, by SIGKILL too, the kernel closes that end, through a
container engine as well, and we read its end. A local worker is also killed by the kernel with its
parent, which works even while Python code cannot run.
"""

import ctypes
import os
import signal
import threading
from types import FrameType

from bench.border.surroundings import RUNNER_GONE, TERMINATED
from bench.border.turns import YOUR_TURN

PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

_heard: list[int] = []  # signals that the handler got
_turns = threading.Semaphore(0)  # that we were given and have not taken


class TerminatedError(BaseException):
    """SIGTERM: somebody wants us to end. No Exception: nothing on the way may swallow it."""


def hold_on_to_runner() -> None:
    # Process 1 of a container ignores SIGTERM unless it has a handler.
    signal.signal(signal.SIGTERM, _leave)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_end_of_input, daemon=True).start()


def _wait_for_end_of_input() -> None:
    while given := os.read(0, 4096):
        _turns.release(given.count(YOUR_TURN))
    os._exit(RUNNER_GONE)


def wait_for_turn() -> None:
    """Until the runner says so, or ends us."""
    _turns.acquire()


def _leave(number: int, frame: FrameType | None) -> None:
    """The runner is there, and what is known is still written down."""
    _heard.append(number)
    raise TerminatedError(TERMINATED)


def was_terminated() -> bool:
    """Whether there was a signal: a class may raise a TerminatedError of its own."""
    return bool(_heard)
