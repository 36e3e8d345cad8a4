"""What a program prints, passed on to the log: all of it, or its beginning and its end."""

import contextlib
import os
from collections import deque

FIRST = 4 * 2**20  # bytes that are passed on as they come
LAST = 2**20  # of what comes after them, those at the end
TAIL = 4096  # bytes that a reason may be found in


class OutputLog:
    """Writes to a file descriptor; `close` adds what was held back."""

    def __init__(self, descriptor: int) -> None:
        self.tail = b""
        self._descriptor = descriptor
        self._room = FIRST
        self._held: deque[bytes] = deque()
        self._held_bytes = self._left_out = 0

    def write(self, data: bytes) -> None:
        self.tail = (self.tail + data[-TAIL:])[-TAIL:]
        now, later = data[: self._room], data[self._room :]
        self._room -= len(now)
        self._pass_on(now)
        if later:
            self._held.append(later)
            self._held_bytes += len(later)
        while self._held_bytes - len(self._held[0] if self._held else b"") >= LAST:
            gone = len(self._held.popleft())
            self._held_bytes -= gone
            self._left_out += gone

    def close(self) -> None:
        held = b"".join(self._held)
        left_out = self._left_out + max(0, len(held) - LAST)
        if left_out:
            self._pass_on(b"\n[%d bytes left out]\n" % left_out)
        self._pass_on(held[-LAST:])
        self._held.clear()

    @property
    def text(self) -> str:
        """The end of what was printed."""
        return self.tail.decode("utf-8", errors="replace").replace("\r", "\n").strip()

    def _pass_on(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # a full disk must not end what is measured
            while data:
                data = data[os.write(self._descriptor, data) :]
