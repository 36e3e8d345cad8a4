"""What a program tells by what it prints: figures by the named groups of patterns, and by JSON.

Read inside a cell, and by the launching side for logs of runs that exist already.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

# What a pattern may read, beside the metrics that a matrix declares.
GROUPS = {
    "step": "training steps done; a line with it and loss is a step line",
    "loss": "the training loss of a step; the last is final where no train_loss is read",
    "train_loss": "an evaluation's loss of the training text",
    "val_loss": "an evaluation's validation loss",
    "test_loss": "an evaluation's test loss",
    "step_time_ms": "milliseconds that a step took",
    "step_time_s": "seconds that a step took",
    "train_time_s": "seconds of training so far",
    "train_time_ms": "milliseconds of training so far",
    "tokens": "tokens that were trained on so far",
    "tokens_per_s": "training tokens a second",
    "n_params": "parameters of the model",
    "perplexity": "as the program computes it",
    "bits_per_char": "as the program computes it",
    "bits_per_byte": "as the program computes it",
}
LOSSES = ("val_loss", "test_loss", "train_loss", "loss")
WHOLE = ("step", "tokens", "n_params")
COUNTS = frozenset(("epoch", "iter", "iteration"))  # as some call what is read as step
MOST = 2**53  # of a whole number: beyond it a float no longer holds each

# With a comma between thousands; 3,14 is no number.
THOUSANDS = re.compile(r"[+-]?[1-9][0-9]{0,2}(,[0-9]{3})+(\.[0-9]*)?([eE][+-]?[0-9]+)?")

# Name -> its number; None: what stood there was none.
Record = dict[str, float | None]


def number(text: str) -> float:
    """Of text as programs print it; inf and nan are numbers.

    Raises:
        ValueError: if it is none, saying so.
    """
    try:
        if text.isascii() and "_" not in text:  # else float takes more than programs print
            return float(text)
    except ValueError:
        if THOUSANDS.fullmatch(text.strip()):
            return float(text.replace(",", ""))
    raise ValueError(f"{_shown(text)} is no number")


@dataclass
class PatternUse:
    """A pattern, or all lines of JSON, and what it met."""

    what: str
    lines: int = 0
    first: str = ""
    first_record: Record = field(default_factory=dict)


class OutputReader:
    """Is given lines (of a LineSplitter), says what each tells, and remembers what met nothing."""

    def __init__(self, patterns: Sequence[str], metrics: Collection[str] = ()) -> None:
        self.uses = [(PatternUse(pattern), re.compile(pattern)) for pattern in patterns]
        self.json = PatternUse("lines of JSON")
        self.known = {*GROUPS, *metrics}
        self.lines = 0
        self.refused: dict[str, str] = {}  # name -> why its last reading was no number
        self.trying: PatternUse | None = None  # a pattern may take without end for a line

    @property
    def silent(self) -> list[str]:
        """The patterns that met nothing."""
        return [use.what for use, _ in self.uses if not use.lines]

    def read(self, line: str) -> Record:
        """What a line tells; of two patterns that read the same name, the first counts."""
        self.lines += 1
        record: Record = {}
        for use, pattern in self.uses:
            self.trying = use
            if found := pattern.search(line):
                groups = {
                    name: text for name, text in found.groupdict().items() if text is not None
                }
                self._note(use, line, self._numbers(groups), record)
        self.trying = None
        if line.lstrip().startswith("{") and (told := self._numbers(_json_object(line))):
            self._note(self.json, line, told, record)
        return record

    def _note(self, use: PatternUse, line: str, told: Record, record: Record) -> None:
        use.lines += 1
        if use.lines == 1:
            use.first, use.first_record = line, told
        for name, value in told.items():
            record.setdefault(name, value)

    def _numbers(self, told: dict[str, Any]) -> Record:
        record: Record = {}
        for name, value in told.items():
            if name not in self.known:
                continue
            try:
                read = number(value) if isinstance(value, str) else _of_json(value)
                record[name] = _whole(read) if name in WHOLE else read
            except (ValueError, OverflowError) as error:
                record[name] = None
                self.refused[name] = str(error)
        return record


def _json_object(line: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except (ValueError, RecursionError):  # no JSON, or nested without measure
        return {}
    return _as_told(content) if isinstance(content, dict) else {}


def _as_told(content: dict[str, Any]) -> dict[str, Any]:
    """Without what is null, and so unknown; where it is all losses, some write so what is NaN."""
    told = {name: value for name, value in content.items() if value is not None}
    losses = [name for name in LOSSES if name in content]
    return told if any(name in told for name in losses) else {**told, **dict.fromkeys(losses)}


def _of_json(value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError(f"{'null' if value is None else _shown(value)} is no number")


def _whole(value: float) -> float:
    if not (value.is_integer() and abs(value) <= MOST):
        raise ValueError(f"{value:g} is no whole number")
    return value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def why_no_pattern(pattern: str, metrics: Collection[str]) -> str | None:
    """What is wrong with a pattern that is to read figures; None: nothing.

    `metrics`: the names that the matrix declares.
    """
    return why_no_expression(pattern) or next(_wrong_groups(pattern, metrics), None)


def why_no_expression(pattern: str) -> str | None:
    """What is wrong with a regular expression that is to find lines; None: nothing."""
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        return f"it is no regular expression of Python: {error}"
    if compiled.search(""):
        return "it matches the empty text, and so every line: say what must stand there"
    return None


def _wrong_groups(pattern: str, metrics: Collection[str]) -> Iterator[str]:
    groups = re.compile(pattern).groupindex
    if not groups:
        yield r"it has no named group, and reads nothing: (?P<val_loss>\S+) reads a val_loss"
    known = sorted({*GROUPS, *metrics})
    for name in groups:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            remedy = f"A figure of your own is declared: `metrics: {{{name}: {{better: lower}}}}`"
            if name in COUNTS:
                remedy = (
                    f"What a program counts is read as `step`: (?P<step>...), not (?P<{name}>...)"
                )
            yield f"no column is called {name!r}. {hint}Known: {', '.join(known)}. {remedy}"
