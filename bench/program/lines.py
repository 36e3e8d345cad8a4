"""Bytes as a program prints them -> lines to read: progress bars and colours taken apart."""

import re

MAX_LINE = 10_000  # bytes of a line that are read: patterns must not meet a gigabyte

# ESC [ ... letter: colours and movements; ESC ] ... BEL or ESC \: titles and links (ECMA-48).
ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")


class LineSplitter:
    """Lines end with \\n, \\r or both; empty ones are dropped. Holds at most MAX_LINE bytes."""

    def __init__(self) -> None:
        self.cut = 0  # lines that were longer, and were read up to there
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that are whole by now."""
        *ends, beginning = data.replace(b"\r", b"\n").split(b"\n")
        lines = []
        for end in ends:
            if whole := self._rest + end if self._rest else end:
                lines.append(self._text(whole))
            self._rest = b""
        # One byte more than is read tells that there was more.
        self._rest = (self._rest + beginning)[: MAX_LINE + 1]
        return [line for line in lines if line]

    def rest(self) -> list[str]:
        """The last line, where nothing ended it."""
        return self.feed(b"\n")

    def _text(self, line: bytes) -> str:
        if len(line) > MAX_LINE:
            self.cut += 1
            # Up to a space: what is cut in two may be a number.
            line = line[:MAX_LINE].rpartition(b" ")[0]
        text = line.decode("utf-8", errors="replace")
        return ANSI.sub("", text) if "\x1b" in text else text
