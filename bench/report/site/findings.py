"""What changed, in words: of a bundle and an arm all at once, worse and better told apart."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.columns import memory_columns
from bench.records.kinds import Column
from bench.report.site.trend import ArmTrend, Change, Failures
from bench.statistics.text import write_signed

WORSE, BETTER = "worse", "better"
NAMES = {
    "step_time_ms_p50": "step time",
    "tokens_per_s": "throughput",
    **dict.fromkeys(memory_columns("cuda"), "GPU memory"),
    **dict.fromkeys(memory_columns("cpu"), "host memory"),
}


@dataclass(frozen=True)
class Finding:
    """What is new of one arm in one bundle."""

    bundle: int  # its place, oldest first
    label: str  # of the arm
    worse: tuple[str, ...]
    better: tuple[str, ...]

    def __str__(self) -> str:
        told = ((WORSE, self.worse), (BETTER, self.better))
        return "; ".join(f"{word}: {', '.join(parts)}" for word, parts in told if parts)


def findings(arms: Sequence[ArmTrend]) -> list[Finding]:
    """The newest bundle's first."""
    found = [finding for arm in arms for finding in _of_arm(arm)]
    return sorted(found, key=lambda finding: -finding.bundle)


def _of_arm(arm: ArmTrend) -> list[Finding]:
    told: dict[int, tuple[list[str], list[str]]] = {}
    for failures in arm.failures:
        told.setdefault(failures.bundle, ([], []))[0].append(failure_words(failures))
    for trend in arm.trends:
        for point in trend.points:
            if change := point.change:
                words = (
                    f"{name_of(trend.metric, trend.column)} {change_words(change, trend.column)}"
                )
                told.setdefault(point.bundle, ([], []))[not change.worse].append(words)
    return [
        Finding(bundle, arm.label, tuple(worse), tuple(better))
        for bundle, (worse, better) in told.items()
    ]


def name_of(metric: str, column: Column) -> str:
    return NAMES.get(metric) or column.title or metric


def verdict_of(change: Change) -> str:
    return WORSE if change.worse else BETTER


def change_words(change: Change, column: Column) -> str:
    """For example "+12.3 % (+7.1 to +17.7 %)", or "+0.0312 (+0.0271 to +0.0353)"."""
    low, high = change.interval.low, change.interval.high
    if change.relative:
        return f"{amount_words(change, column)} ({_percent(low)} to {_percent(high)} %)"
    ends = f"{write_signed(low, column.decimals)} to {write_signed(high, column.decimals)}"
    return f"{amount_words(change, column)} ({ends})"


def amount_words(change: Change, column: Column) -> str:
    if change.relative:
        return f"{_percent(change.amount)} %"
    return write_signed(change.amount, column.decimals)


def _percent(logarithm: float) -> str:
    return f"{100 * math.expm1(logarithm):+.1f}"


def failure_words(failures: Failures) -> str:
    """For example "2 of 5 seeds crashed, 1 timeout"."""
    (first, count), *others = failures.statuses.items()
    rest = "".join(f", {number} {status}" for status, number in others)
    return f"{count} of {failures.seeds} seeds {first}{rest}"
