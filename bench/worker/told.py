"""Statistics of what somebody brought: whatever goes wrong with one, the cell goes on."""

from collections.abc import Callable
from typing import TypeVar

from bench.worker.protocol import log

T = TypeVar("T")


def told(what: str, ask: Callable[[], T]) -> T | None:
    """What is answered; None, which is an empty field, and a line in the log if asking fails."""
    try:
        return ask()
    except Exception as error:
        log(f"{what} is not known: {type(error).__name__}: {error}")
        return None
