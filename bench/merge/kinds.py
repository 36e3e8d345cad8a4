"""What the fields of each column of runs.csv hold: a number, true or false, a time; else text."""

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.merge.shown import CONSTANTS, METRICS
from bench.records.rows import LARGEST_FIGURE


def _whole(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond 64 bits")
    return value


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither")
    return text == "true"


def _time(text: str) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("of no time zone")
    return time.astimezone(datetime.UTC)


@dataclass(frozen=True)
class Kind:
    words: str  # what a field is, for a message that says what it is not
    dtype: str  # of a pandas column; unknown fields have a place in each
    read: Callable[[str], Any]  # of a field that is not empty; ValueError if it is of another kind


TEXT = Kind("a text", "string", str)
NUMBER = Kind("a number", "float64", float)
WHOLE = Kind("a whole number", "Int64", _whole)
FLAG = Kind("true or false", "boolean", _flag)
TIME = Kind("a time with its zone in ISO 8601", "datetime64[us, UTC]", _time)

_WHOLE = (
    *("attempt", "schema_version", "seed", "order_in_seed", "neighbours", "trial"),
    *CONSTANTS,
    *("context_switches_voluntary", "context_switches_involuntary"),
)
_NUMBERS = (
    *METRICS,
    *("memory_limit_gib", "timeout_limit_s", "heartbeat_limit_s", "epochs"),
    *("host_tree_rss_peak_mib", "host_load_mean", "cpu_clock_mean_mhz"),
    *("cpu_steal_pct", "cpu_others_pct", "cpu_throttled_pct"),
)
_FLAGS = ("memory_limit_enforced", "git_dirty", "tainted")

# Every other column is text, those of a newer version included.
KINDS: dict[str, Kind] = {
    **dict.fromkeys(_WHOLE, WHOLE),
    **dict.fromkeys(_NUMBERS, NUMBER),
    **dict.fromkeys(_FLAGS, FLAG),
    "started_at": TIME,
}


def kind_of(column: str) -> Kind:
    return KINDS.get(column, TEXT)


def check(row: Mapping[str, str]) -> None:
    """Raises ValueError, with a message for readers, at a field that is not of its column's kind.

    Empty fields are unknown, and columns that an older version did not have are none.
    """
    for column, kind in KINDS.items():
        text = row.get(column)
        if text:
            try:
                kind.read(text)
            except ValueError:
                raise ValueError(f"{column} is {text!r}, not {kind.words}") from None


def beyond(row: Mapping[str, str]) -> list[str]:
    """The columns of a sound row with a finite number that is too large for statistics."""
    found = ((column, row.get(column)) for column, kind in KINDS.items() if kind is NUMBER)
    values = ((column, NUMBER.read(text)) for column, text in found if text)
    return [column for column, value in values if LARGEST_FIGURE < abs(value) < math.inf]


def required(row: Mapping[str, str], column: str) -> None:
    """Raises ValueError if a field is empty that nothing can be told without."""
    if not row[column]:
        raise ValueError(f"{column} is empty")
