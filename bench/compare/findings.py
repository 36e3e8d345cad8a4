"""What rules found, in words: changes, their intervals and bounds, a case an arm and rule."""

from collections.abc import Iterator
from dataclasses import dataclass

from bench.compare.judge import GateStatus, MetricChange, RuleResult, VersionComparison, worst
from bench.compare.rules import Rule
from bench.records.kinds import LOSS
from bench.statistics.text import NOT_AVAILABLE, counted, fixed, of_loss, of_measure

WORDS = {
    GateStatus.PASS: "Passed",
    GateStatus.FAIL: "FAILED",
    GateStatus.UNDECIDED: "UNDECIDED",
}
CELLS = "cells"  # the case that is about an arm's failed and missing cells
ALL_ARMS = "all arms"


@dataclass(frozen=True)
class GateCase:
    """What a rule, or the cells themselves, came to in one arm: for what knows cases only."""

    arm: str
    name: str  # the rule, or CELLS
    outcome: GateStatus
    about: str  # figure, interval and bound, and why; empty: nothing is to be told


def cases(comparison: VersionComparison) -> Iterator[GateCase]:
    """One for each arm and rule, then one for the cells of each arm; none without rules."""
    if not comparison.rules:
        return
    for found in comparison.findings:
        if found.rule:
            about = _with_bound(found, found.rule, comparison)
            yield GateCase(found.arm or ALL_ARMS, str(found.rule), found.outcome, about)
    for arm in (*(one.arm.label for one in comparison.arms), *comparison.joined.only_base):
        of_arm = [one for one in comparison.findings if one.rule is None and one.arm == arm]
        about = "; ".join(one.why for one in of_arm)
        yield GateCase(arm, CELLS, worst(of_arm) or GateStatus.PASS, about)


def _with_bound(finding: RuleResult, rule: Rule, comparison: VersionComparison) -> str:
    """For example "+20.70 % (+13.41 % to +28.50 %), allowed +5 %"."""
    share = rule.relative
    bound = f"{100 * rule.threshold:+.6g} %" if share else f"{rule.threshold:+.6g}"
    across = comparison.joined.across
    figures = [_figures(finding, comparison), f"allowed {bound}"]
    figures += [f"across {across}, unpaired"] if across else []
    return "; ".join(filter(None, (", ".join(filter(None, figures)), finding.why)))


def conclusion(comparison: VersionComparison) -> list[str]:
    """One line, and one for each finding that did not pass."""
    arms = f"{counted(len(comparison.arms), 'arm')} compared"
    if comparison.joined.across:
        arms += f" across {comparison.joined.across}, unpaired"
    if comparison.outcome is None:
        return [f"{arms}; no rule was given, so that nothing fails."]
    rules = ", ".join(map(str, comparison.rules))
    found = [finding for finding in comparison.findings if finding.outcome is not GateStatus.PASS]
    first = f"{WORDS[comparison.outcome]}: {rules}; {arms}."
    return [first, *(_finding(finding, comparison) for finding in found)]


def _finding(finding: RuleResult, comparison: VersionComparison) -> str:
    rule = f"{finding.rule}, " if finding.rule else ""
    about = "; ".join(filter(None, (_figures(finding, comparison), finding.why)))
    return f"{WORDS[finding.outcome]}: {rule}{finding.arm or ALL_ARMS}: {about}"


def _figures(finding: RuleResult, comparison: VersionComparison) -> str:
    """The change and its interval; empty where there is none."""
    found = next((one for one in comparison.arms if one.arm.label == finding.arm), None)
    line = found.line(finding.rule.metric) if found and finding.rule else None
    if line is None or not line.contrast.n:
        return ""
    return f"{signed(line, line.contrast.mean)} ({interval_words(line)})"


def interval_words(line: MetricChange) -> str:
    interval = line.contrast.interval
    if interval is None:
        return NOT_AVAILABLE
    return f"{signed(line, interval.low)} to {signed(line, interval.high)}"


def signed(line: MetricChange, value: float | None) -> str:
    """A change in the scale of its contrast, as a reader takes it."""
    told = in_unit(line, value)
    if told is None:
        return NOT_AVAILABLE
    if line.contrast.relative:
        return f"{100 * told:+.2f} %"
    places = of_loss(told) if line.column.kind == LOSS else of_measure(told)
    return fixed(told, places, "+")


def in_unit(line: MetricChange, value: float | None) -> float | None:
    """A change in the metric's unit, or as a share; None beyond what a double holds.

    So wide are the intervals of ratios from two seeds.
    """
    try:
        return None if value is None else line.contrast.in_unit(value)
    except OverflowError:
        return None
