"""What a field of a CSV may hold, and what is known of a column: the table is in columns.py."""

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

from bench.statistics.text import Decimals, of_measure, write


@dataclass(frozen=True)
class Kind:
    """What a field holds, and which statistics use it."""

    words: str  # what a field is, for a message that says what it is not
    dtype: str  # of a pandas column; unknown fields have a place in each
    read: Callable[[str], Any]  # of a field that is not empty; ValueError if it is of another kind
    role: Literal["", "constant", "loss", "timing", "figure"] = ""  # empty: of no statistic


def _whole(text: str) -> int:
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise ValueError("beyond 64 bits")
    return value


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("neither true nor false")
    return text == "true"


def _time(text: str) -> datetime.datetime:
    time = datetime.datetime.fromisoformat(text)
    if time.tzinfo is None:
        raise ValueError("without a time zone")
    return time.astimezone(datetime.UTC)


def _object(text: str, *kinds: type) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except RecursionError as error:
        raise ValueError("too deep") from error
    if not isinstance(found, dict) or not all(isinstance(each, kinds) for each in found.values()):
        raise ValueError("another thing")
    return found


def _settings(text: str) -> str:
    declared = _object(text, dict).get("program", {}).get("metrics", {})
    _object(json.dumps(declared), str)
    return text


def _figures(text: str) -> str:
    _object(text, int, float)
    return text


TEXT = Kind("a text", "string", str)
NUMBER = Kind("a number", "float64", float)
WHOLE = Kind("a whole number", "Int64", _whole)
FLAG = Kind("true or false", "boolean", _flag)
TIME = Kind("a time with its zone in ISO 8601", "datetime64[us, UTC]", _time)
SETTINGS = Kind("settings as JSON", "string", _settings)
DECLARED = Kind("a JSON object of numbers", "string", _figures)

# The same for all seeds of an arm, so that it has no mean.
CONSTANT = replace(WHOLE, role="constant")
# A loss, or what is computed from one: no load on the machine changes it.
LOSS = replace(NUMBER, role="loss")
# What somebody else's load on the machine changes: times, and what is taken over a time.
TIMING = replace(NUMBER, role="timing")
# What else has a mean. Memory is a cell's own, and a highest temperature is no mean over a time.
FIGURE = replace(NUMBER, role="figure")


@dataclass(frozen=True)
class Column:
    """A column of runs.csv. An empty field is unknown or not applicable."""

    meaning: str
    kind: Kind = TEXT
    more_is_better: bool = False
    heading: str = ""  # over it in tables, with its unit; empty: no table shows it
    decimals: Decimals = of_measure
    title: str = ""  # in sentences and pictures, for what a claim may be about
    unit: str = ""  # after the title; empty: none

    def write(self, value: float | None) -> str:
        return write(value, self.decimals)
