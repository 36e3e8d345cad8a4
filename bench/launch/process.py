"""One child process: its JSON lines, its time limit, its end. Blocking waits, no polling."""

import json
import os
import select
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

from bench.launch.job import Exit, OnEvent, Stop

GRACE_S = 10.0  # between SIGTERM and SIGKILL
MAX_LINE = 1_000_000  # a longer line is not ours; it must not fill the memory


@dataclass(frozen=True)
class Command:
    argv: Sequence[str]
    environment: Mapping[str, str]
    log: Path  # receives standard error
    timeout_s: float
    kill: Callable[[int, signal.Signals], None]  # (pid, signal): reaches the worker itself
    cpus: tuple[int, ...] = ()  # affinity, where no container sets it


def supervise(command: Command, on_event: OnEvent, stop: Stop) -> Exit:
    """Run a command until it ends, its time is up, or `stop` is set.

    Its standard input stays open as long as this process lives: the worker ends when it closes.
    """
    with command.log.open("ab") as log:
        launched = time.monotonic()
        child = subprocess.Popen(
            command.argv,
            env=command.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C reaches the runner alone, which then decides
        )
        waiter = _Waiter(child)
        try:
            if command.cpus:
                os.sched_setaffinity(child.pid, command.cpus)  # its threads inherit it
            lines = _Lines(log, on_event)
            ended_by = _pump(child, waiter, lines, stop, launched + command.timeout_s)
            if ended_by != "itself":
                _end(child, waiter, command)
            lines.finish(child)
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
        stopped_why=stop.why if ended_by == "interrupt" else None,
        last_event=lines.last,
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
    on_event: OnEvent
    last: dict[str, Any] | None = None
    rest: bytes = field(default=b"")

    def feed(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        if len(self.rest) > MAX_LINE:
            self._line(self.rest)
            self.rest = b""

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
        except ValueError:
            event = None
        if isinstance(event, dict):
            self.last = event
            self.on_event(event)
        elif line:
            self.log.write(b"[standard output] " + line[:MAX_LINE] + b"\n")
            self.log.flush()


def _pump(
    child: "subprocess.Popen[bytes]", waiter: _Waiter, lines: _Lines, stop: Stop, deadline: float
) -> Literal["itself", "timeout", "interrupt"]:
    """Pass events on until something ends the wait."""
    assert child.stdout is not None
    output = child.stdout.fileno()
    poll = select.poll()
    for fileno in (output, waiter.readable, stop.fileno()):
        poll.register(fileno, select.POLLIN)
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            return "timeout"
        ready = {fileno for fileno, _ in poll.poll(left * 1000)}
        if waiter.readable in ready:
            return "itself"  # also if it ended in the moment of a stop
        if stop.fileno() in ready:
            return "interrupt"
        if output in ready:
            data = os.read(output, 65_536)
            if data:
                lines.feed(data)
            else:
                poll.unregister(output)


def _end(child: "subprocess.Popen[bytes]", waiter: _Waiter, command: Command) -> None:
    """SIGTERM, grace (the worker writes down what it knows), end of input, SIGKILL."""
    command.kill(child.pid, signal.SIGTERM)
    waiter.thread.join(GRACE_S)
    if waiter.thread.is_alive():
        _close_input(child)  # ends a container that was not there yet to get the signal
        command.kill(child.pid, signal.SIGKILL)
        waiter.thread.join()


def _close_input(child: "subprocess.Popen[bytes]") -> None:
    assert child.stdin is not None
    child.stdin.close()
