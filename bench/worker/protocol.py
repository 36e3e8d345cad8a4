"""What the worker says while it lives (JSON lines) and leaves behind (whole files)."""

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from bench.border.atomic import write_atomically

T = TypeVar("T")


class Speaker:
    """JSON lines on what was standard output; everything else that prints goes to the log.

    A library that prints must not break the protocol: file descriptor 1 becomes the log, the
    real standard output is kept for us alone.
    """

    def __init__(self) -> None:
        self.stream = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        self.stream.write("\n")  # ends what was printed before us and has no end

    def __call__(self, **event: Any) -> None:
        """One event; numbers that JSON cannot hold (NaN, infinity) are left out."""
        known = {
            key: value
            for key, value in event.items()
            if not (isinstance(value, float) and not math.isfinite(value))
        }
        self.stream.write(json.dumps(known) + "\n")
        self.stream.flush()


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> None:
    """Floats by repr, which reads back to the same number."""
    buffer = io.StringIO()
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(columns)
    table.writerows(rows)
    write_atomically(path, buffer.getvalue())


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_atomically(path, json.dumps(content, indent=2, allow_nan=False) + "\n")


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def told(what: str, ask: Callable[[], T]) -> T | None:
    """A statistic of what somebody brought; None, and a line in the log, where asking fails."""
    try:
        return ask()
    except Exception as error:
        log(f"{what} is not known: {type(error).__name__}: {error}")
        return None
