"""The program as a process: its output, and an end that leaves nothing of it running."""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

from bench.border.surroundings import RUNNER_GONE

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36  # from <linux/prctl.h>
CHUNK = 65_536  # bytes, what a pipe holds
BATCH = 2**20  # bytes, what is kept until somebody looks at it
# How long what trickles in is left to come together: a wake-up takes more of a shared CPU than a
# line does, and Python writes a line and its end apart. Faster steps are timed several at once.
LULL_S = 0.020
TRICKLE = 4096  # bytes at once; what prints more must not wait for room in the pipe
STOP_S = 5.0  # from SIGTERM to SIGKILL: the launching side waits ten seconds in all
KILL_S = 3.0  # processes that SIGKILL does not end (in a driver) are left to the container's end

Chunks = list[tuple[float, bytes]]  # (moment of CLOCK_MONOTONIC, what came)


class Child:
    """One program; what it starts becomes ours when its parents end, and ends with it."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped = False  # by SIGTERM, or by `stop`
        self.ended = False
        self._closed = self._alone = False
        self.exited = 0.0  # of CLOCK_MONOTONIC
        self._prctl = ctypes.CDLL(None).prctl
        self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGALRM, lambda number, frame: kill_descendants())

    def start(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        """
        Raises:
            OSError: if there is no such program, or it cannot be run.
        """
        python = command[0] in ("python", "python3")
        self.process = subprocess.Popen(
            [sys.executable if python else command[0], *command[1:]],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # Should we be killed: no thread of ours runs yet that could hold a lock meanwhile.
            preexec_fn=lambda: self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
        )
        assert self.process.stdout is not None
        self._output = self.process.stdout.fileno()
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        threading.Thread(target=self._end_with_runner, daemon=True).start()
        self._waiter = threading.Thread(target=self._wait, daemon=True)
        self._waiter.start()
        if self.stopped:  # in the moment of its start
            self.stop()

    def read(self, until: float) -> Chunks:
        """What it prints up to a moment of CLOCK_MONOTONIC, or until it has ended or printed much.

        Nothing is done with it meanwhile: a program that shares its CPU with us waits the least.
        """
        chunks: Chunks = []
        buffer = memoryview(bytearray(CHUNK))
        at, left, size = time.monotonic(), BATCH, 0
        timeout_ms = 1000 * max(0.0, until - at)
        while at < until and left > 0 and not self._closed:
            if not self._poll.poll(timeout_ms):
                self.ended = not self._waiter.is_alive()  # and what it left cannot be killed
                return chunks
            at = time.monotonic()
            if size < TRICKLE:
                time.sleep(LULL_S)
            size = os.readv(self._output, [buffer])
            chunks.append((at, buffer[:size].tobytes()))  # of its size alone: there may be many
            left -= size
            self._closed = not size
        if self._closed:  # by its end, or it goes on in silence
            self._waiter.join(until - at)
            self.ended = not self._waiter.is_alive()
        return chunks

    def finish(self) -> Chunks:
        """What the pipe still holds, at the moment of its end."""
        self._waiter.join()
        if self._alone:  # then it was we who ended it, and nobody wants a result
            os._exit(RUNNER_GONE)
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(ChildProcessError):  # their use of the processors becomes ours
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        os.set_blocking(self._output, False)
        chunks: Chunks = []
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self._output, CHUNK):
                chunks.append((self.exited, data))
        return chunks

    def kill(self) -> None:
        """All of it, at once; what it printed last is of no use."""
        kill_descendants()
        if self.process is not None:
            self.finish()

    def stop(self) -> None:
        """SIGTERM to its process group; SIGKILL to all, a while later."""
        if self.exited:
            return
        self.stopped = True
        if self.process is not None:
            signal.setitimer(signal.ITIMER_REAL, STOP_S)
            with contextlib.suppress(ProcessLookupError):  # it ended in this moment
                os.killpg(self.process.pid, signal.SIGTERM)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.stop()

    def _wait(self) -> None:
        assert self.process is not None
        self.process.wait()
        self.exited = time.monotonic()
        kill_descendants()  # which closes the pipe

    def _end_with_runner(self) -> None:
        """The launching side holds the other end of our standard input as long as it lives."""
        while os.read(0, 4096):
            pass
        self._alone = True
        kill_descendants()
        os._exit(RUNNER_GONE)


def kill_descendants() -> None:
    """All processes that come from us, in whatever session they are."""
    given_up = time.monotonic() + KILL_S
    while (found := _descendants()) and time.monotonic() < given_up:
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def _descendants() -> list[int]:
    """Those that live."""
    parents = {pid: parent for pid, parent, state in _processes() if state not in "ZX"}
    found = [os.getpid()]
    for pid in found:  # grows meanwhile
        found += [child for child, parent in parents.items() if parent == pid]
    return found[1:]


def _processes() -> Iterator[tuple[int, int, str]]:
    """(pid, parent, state) of each, by proc(5)."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):  # it ended in this moment
                stat = Path("/proc", name, "stat").read_bytes().decode(errors="replace")
                state, parent = stat.rpartition(")")[2].split()[:2]
                yield int(name), int(parent), state
