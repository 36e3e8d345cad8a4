"""One child process: its JSON lines, its time limit, its end. Blocking waits, no polling."""

import contextlib
import json
import math
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bench.border.options import Limits
from bench.border.turns import PASSES_ON, YOUR_TURN
from bench.launch.baton import Baton
from bench.launch.job import Exit, Stop, Watcher
from bench.measure.host import CellProcesses

GRACE_S = 10.0  # between SIGTERM and SIGKILL
ALONE = "stopped because the command that lets versions train in turn is gone"
MAX_LINE = 1_000_000  # a longer line is not ours; it must not fill the memory


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path  # receives standard error
    limits: Limits
    find: Callable[[int], CellProcesses | None]  # (pid): the worker's own processes
    kill: Callable[[int, signal.Signals], None]  # (pid, signal): reaches the worker itself
    cpus: tuple[int, ...] = ()  # affinity, where no container sets it
    place: Path | None = None  # the folder it is started in; None: ours
    baton: Baton | None = None  # where it trains in turn with others


def supervise(command: Command, watcher: Watcher, stop: Stop) -> Exit:
    """Run a command until it ends, a limit of time is reached, or `stop` is set.

    Its standard input stays open as long as this process lives: the worker ends when it closes.
    """
    with command.log.open("ab") as log:
        launched = time.monotonic()
        child = subprocess.Popen(
            command.argv,
            env=command.environment,
            cwd=command.place,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the runner alone, which then decides
        )
        waiter = _Waiter(child)
        try:
            if command.cpus:
                with contextlib.suppress(ProcessLookupError):  # it ended in this moment
                    os.sched_setaffinity(child.pid, command.cpus)  # its threads inherit it
            watcher.started(lambda: command.find(child.pid))
            lines = _Lines(log, watcher.event)
            deadlines = Deadlines(command.limits, launched, last_word=launched)
            ended_by, why = _pump(child, waiter, lines, stop, deadlines, command.baton)
            others = command.baton if deadlines.waits else None  # have the turn
            if others:
                deadlines.resume()
            if ended_by != "itself":
                _end(child, waiter, lines, command)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # what it started and left behind
            lines.finish(child)
            if others:
                _take_back(others, stop)
        except BaseException:
            command.kill(child.pid, signal.SIGKILL)  # an error of ours leaves nothing running
            raise
        finally:
            waiter.thread.join()
            _close_input(child)
    return Exit(
        ended_by=ended_by,
        code=child.returncode,
        launched=launched,
        exited=waiter.exited,
        stopped_why=why,
        last_event=lines.last,
        waited_s=deadlines.waited_s,
    )


class _Waiter:
    """Waits for the exit in a thread of its own, so that its moment is known exactly."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        self.child = child
        self.exited = 0.0
        self.readable, self._write = os.pipe()
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self) -> None:
        self.child.wait()
        self.exited = time.monotonic()
        os.close(self._write)  # end of file on the other end wakes the poll

    def __del__(self) -> None:
        os.close(self.readable)


@dataclass
class _Lines:
    """Bytes of standard output -> events; what is not one of ours goes to the log."""

    log: BinaryIO  # open: the worker owns its folder, where the name may lead elsewhere by now
    on_event: Callable[[dict[str, Any]], None]
    last: dict[str, Any] | None = None
    rest: bytes = b""
    passes_on: bool = False  # it said so, and it was not done yet

    def feed(self, data: bytes) -> None:
        """What goes beyond MAX_LINE is dropped, also of a line without end."""
        *ends, beginning = data.split(b"\n")
        for end in ends:
            self._line((self.rest + end)[:MAX_LINE])
            self.rest = b""
        self.rest = (self.rest + beginning)[:MAX_LINE]

    def take(self, child: "subprocess.Popen[bytes]", waiter: _Waiter) -> None:
        """What it says until it ends."""
        assert child.stdout is not None
        output, poll = child.stdout.fileno(), select.poll()
        for fileno in (output, waiter.readable):
            poll.register(fileno, select.POLLIN)
        while waiter.readable not in {fileno for fileno, _ in poll.poll()}:
            data = os.read(output, 65_536)
            if data:
                self.feed(data)
            else:
                poll.unregister(output)

    def finish(self, child: "subprocess.Popen[bytes]") -> None:
        """Take what is still in the pipe."""
        assert child.stdout is not None
        os.set_blocking(child.stdout.fileno(), False)
        while data := child.stdout.read():
            self.feed(data)
        self._line(self.rest)
        child.stdout.close()

    def _line(self, line: bytes) -> None:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):  # no JSON, or nested without measure
            event = None
        if isinstance(event, dict):
            self.last = event
            self.passes_on = event.get("stage") == PASSES_ON
            self.on_event(event)
        elif line:
            with contextlib.suppress(OSError):  # a full disk must not end what is measured
                self.log.write(b"[standard output] " + line + b"\n")
                self.log.flush()


@dataclass
class Deadlines:
    """When a cell has had its time, or has been silent for too long."""

    limits: Limits
    launched: float
    last_word: float
    waits_since: float | None = None  # for its turn: time that is not its own
    waited_s: float = 0.0

    @property
    def waits(self) -> bool:
        return self.waits_since is not None

    def pause(self) -> None:
        self.waits_since = time.monotonic()

    def resume(self) -> None:
        assert self.waits_since is not None
        seconds = time.monotonic() - self.waits_since
        self.waits_since = None
        self.waited_s += seconds
        self.launched += seconds
        self.last_word += seconds

    def left_s(self) -> float:
        if self.waits:
            return math.inf
        times_up = self.launched + self.limits.timeout_s
        hangs = self.last_word + self.limits.heartbeat_s
        return min(times_up, hangs) - time.monotonic()

    def why(self) -> str:
        """What was reached first."""
        limits = self.limits
        if self.launched + limits.timeout_s <= self.last_word + limits.heartbeat_s:
            return f"stopped after limits.timeout_s = {limits.timeout_s:g} seconds"
        return f"it hung: nothing heard for limits.heartbeat_s = {limits.heartbeat_s:g} seconds"


def _pump(
    child: "subprocess.Popen[bytes]",
    waiter: _Waiter,
    lines: _Lines,
    stop: Stop,
    deadlines: Deadlines,
    baton: Baton | None,
) -> tuple[Literal["itself", "timeout", "interrupt"], str | None]:
    """Pass events on until something ends the wait; what, and why."""
    assert child.stdout is not None
    output = child.stdout.fileno()
    poll = select.poll()
    for fileno in (output, waiter.readable, stop.fileno(), *([baton.fileno()] if baton else [])):
        poll.register(fileno, select.POLLIN)
    while True:
        left_s = deadlines.left_s()
        if left_s <= 0:
            return "timeout", deadlines.why()
        ready = {fileno for fileno, _ in poll.poll(None if deadlines.waits else left_s * 1000)}
        if waiter.readable in ready:
            return "itself", None  # also if it ended in the moment of a stop
        if stop.fileno() in ready:
            return "interrupt", stop.why
        if baton and baton.fileno() in ready:
            if not baton.take():
                stop.set(ALONE)  # of the whole run: a further cell would be no better off
                return "interrupt", stop.why
            if deadlines.waits:
                deadlines.resume()
                _tell(child, YOUR_TURN)
        if output in ready:
            data = os.read(output, 65_536)
            if data:
                deadlines.last_word = time.monotonic()
                lines.feed(data)
                if baton and not deadlines.waits and lines.passes_on:
                    lines.passes_on = False
                    deadlines.pause()
                    baton.pass_on()
            else:
                poll.unregister(output)


def _take_back(baton: Baton, stop: Stop) -> None:
    """Of a process that ended while others have the turn: what comes next would compute as well."""
    poll = select.poll()
    for fileno in (baton.fileno(), stop.fileno()):
        poll.register(fileno, select.POLLIN)
    ready = {fileno for fileno, _ in poll.poll()}
    if stop.fileno() not in ready and not baton.take():
        stop.set(ALONE)


def _tell(child: "subprocess.Popen[bytes]", words: bytes) -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # it ended in this moment
        child.stdin.write(words)
        child.stdin.flush()


def _end(
    child: "subprocess.Popen[bytes]", waiter: _Waiter, lines: _Lines, command: Command
) -> None:
    """SIGTERM, grace (the worker writes down what it knows), end of input, SIGKILL.

    What it says meanwhile is taken: a full pipe would hold it, and an engine's client, back.
    """

    with ThreadPoolExecutor(1) as pool:
        taken = pool.submit(lines.take, child, waiter)
        command.kill(child.pid, signal.SIGTERM)
        waiter.thread.join(GRACE_S)
        if waiter.thread.is_alive():
            _close_input(child)  # ends a container that was not there yet to get the signal
            command.kill(child.pid, signal.SIGKILL)
            waiter.thread.join()
        taken.result()


def _close_input(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    with contextlib.suppress(BrokenPipeError):  # what it was told last
        child.stdin.close()
