"""--fail-on: by how much a figure may get worse, as COLUMN>NUMBER or COLUMN>NUMBER%."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.errors import RequestError, nearest, shown
from bench.records.columns import IN_POINTS
from bench.records.programs import OURS, Setup

GRAMMAR = re.compile(r"\s*(\w+)\s*([<>])\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(%?)\s*")
LEAST_PCT = -100.0  # a figure cannot lose more than all of itself


@dataclass(frozen=True)
class Rule:
    """What one metric may change by, to the worse."""

    metric: str  # a column of runs.csv, or what a program declares
    threshold: float  # a share where relative (0.05), else in the metric's unit; < 0: a decrease
    relative: bool
    more_is_better: bool = field(default=False, compare=False)  # of the metric

    @property
    def limit(self) -> float:
        """The threshold in the scale of a contrast: of logarithms where relative."""
        return math.log1p(self.threshold) if self.relative else self.threshold

    def __str__(self) -> str:
        sign = "<" if self.more_is_better else ">"
        value = f"{100 * self.threshold:.6g}%" if self.relative else f"{self.threshold:.6g}"
        return f"{self.metric}{sign}{value}"


def parse_rules(texts: Sequence[str], setup: Setup = OURS) -> tuple[Rule, ...]:
    """All rules, one a metric that rows of this setup may have.

    Raises:
        RequestError: with every mistake in them.
    """
    rules: list[Rule] = []
    mistakes: list[str] = []
    for text in texts:
        found = _parse(text, setup)
        if isinstance(found, str):
            mistakes.append(f"--fail-on {shown(text)}: {found}")
        elif found.metric in {rule.metric for rule in rules}:
            mistakes.append(f"--fail-on {shown(text)}: {found.metric} has two rules. Give one.")
        else:
            rules.append(found)
    if mistakes:
        raise RequestError("\n".join(mistakes))
    return tuple(rules)


def _parse(text: str, setup: Setup) -> Rule | str:
    """A rule, or what is wrong with it."""
    parts = GRAMMAR.fullmatch(text)
    if parts is None:
        return "write COLUMN>NUMBER or COLUMN>NUMBER%, such as step_time_ms_p50>5%."
    metric, sign, number, percent = parts.groups()
    if metric not in setup.metrics:
        return f"no such metric. {nearest(metric, setup.metrics)}"
    more_is_better = setup.columns[metric].more_is_better
    value = float(number)
    if not math.isfinite(value):
        return f"{number} is too large. Write a smaller number."
    size = f"{abs(value):g}{percent}"
    if more_is_better and (sign == ">" or value > 0):
        return f"more of it is better. Write {metric}<-{size}, a loss that is too large."
    if not more_is_better and (sign == "<" or value < 0):
        return f"less of it is better. Write {metric}>{size}, a growth that is too large."
    if percent and metric in IN_POINTS:
        return f"it has no ratio. Write {metric}>{abs(value):g}, in its own unit."
    if percent and value <= LEAST_PCT:
        return "a figure cannot lose more than all of itself. Write less than 100%."
    return Rule(metric, value / 100 if percent else value, bool(percent), more_is_better)
