"""Of several commands one computes at a time: the one with the baton. Who began them hands it on.

Each has one end of a socket. A byte to the other end passes the baton on; a byte from there brings
it back. Where nobody holds the other end any more, who began them is gone: nobody says whose turn
it is, and all of them would compute at once.
"""

import contextlib
import os
import socket
from dataclasses import dataclass

VARIABLE = "BENCH_BATON"  # the socket's file descriptor
PASSED = b"."


@dataclass(frozen=True)
class Baton:
    """A command's end of the socket."""

    end: socket.socket

    @classmethod
    def given(cls) -> "Baton | None":
        """The one that this process was started with, if any; what it starts has none."""
        number = os.environ.pop(VARIABLE, "")
        if not number:
            return None
        os.set_inheritable(int(number), False)
        return cls(socket.socket(fileno=int(number)))

    def fileno(self) -> int:
        """Can be read from once the baton is back, or who hands it on is gone."""
        return self.end.fileno()

    def pass_on(self) -> None:
        with contextlib.suppress(OSError):  # nobody is there, as `take` will tell
            self.end.send(PASSED)

    def take(self) -> bool:
        """Whether it is back; else who hands it on is gone."""
        try:
            return self.end.recv(1) == PASSED
        except OSError:
            return False
