"""Two versions -> a verdict per arm and metric, and whether a rule fails."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from bench.compare.pairing import Joined, PairedArm, Pairs
from bench.compare.rules import Rule
from bench.records.columns import TIMINGS, is_relative
from bench.records.kinds import Column
from bench.records.programs import joined_setup
from bench.report.family import least_seeds
from bench.statistics.contrast import Contrast, difference
from bench.statistics.interval import LEAST, LEAST_TIMES, ROUNDING, Interval
from bench.statistics.text import seed_words
from bench.statistics.verdict import ALPHA, Judgement, Verdict, judge


class GateStatus(StrEnum):
    """Of a rule, or of all of them."""

    PASS = "pass"
    UNDECIDED = "undecided"
    FAIL = "fail"


@dataclass(frozen=True)
class MetricChange:
    """One metric of one arm: NEW against BASE."""

    metric: str
    column: Column  # what that is
    pairs: Pairs
    contrast: Contrast
    judgement: Judgement

    @property
    def base_mean(self) -> float | None:
        """Over the pairs, in the metric's unit."""
        return statistics.fmean(self.pairs.base.values()) if self.pairs.base else None

    @property
    def new_mean(self) -> float | None:
        return statistics.fmean(self.pairs.new.values()) if self.pairs.new else None


@dataclass(frozen=True)
class RuleResult:
    """What a rule says of one arm."""

    rule: Rule | None  # None: failed or missing cells, which concern every rule
    arm: str | None  # its label; None: of all of them
    outcome: GateStatus
    why: str  # a clause; empty where the interval says it


@dataclass(frozen=True)
class Compared:
    """One arm with all its metrics that either side knows."""

    arm: PairedArm
    lines: tuple[MetricChange, ...]

    def line(self, metric: str) -> MetricChange | None:
        return next((line for line in self.lines if line.metric == metric), None)


@dataclass(frozen=True)
class VersionComparison:
    joined: Joined
    rules: tuple[Rule, ...]
    keep_disturbed: bool
    confidence: float  # of each interval
    arms: tuple[Compared, ...]
    findings: tuple[RuleResult, ...]  # empty without rules
    undecided_fails: bool

    @property
    def outcome(self) -> GateStatus | None:
        """The worst of the findings; None without rules."""
        return worst(self.findings)

    def fails(self, outcome: GateStatus | None) -> bool:
        """Whether this outcome, of a finding or of all, fails the gate."""
        undecided = self.undecided_fails and outcome is GateStatus.UNDECIDED
        return outcome is GateStatus.FAIL or undecided


def worst(findings: Iterable[RuleResult]) -> GateStatus | None:
    """None: there are none."""
    found = {finding.outcome for finding in findings}
    return next((one for one in reversed(GateStatus) if one in found), None)


def compare(
    joined: Joined, rules: Sequence[Rule], keep_disturbed: bool, undecided_fails: bool = False
) -> VersionComparison:
    """Judge every arm that both versions have.

    `keep_disturbed`: for cells that ran beside each other, in turn. What disturbs these falls on
    either side alike, and is in the interval; a busy machine would else have nothing to compare.

    Intervals are Bonferroni's: α is shared out among arms x metrics that have a rule, so that all
    that can fail hold together. Metrics without a rule have the same confidence each, and are not
    corrected for their own number: they tell, and fail nothing.
    """
    confidence = 1 - ALPHA / (max(1, len(joined.arms)) * max(1, len(rules)))
    arms = tuple(
        Compared(arm, tuple(_lines(joined, arm, rules, confidence, keep_disturbed)))
        for arm in joined.arms
    )
    findings = (*_findings(arms, rules), *_missing(joined)) if rules else ()
    return VersionComparison(
        joined, tuple(rules), keep_disturbed, confidence, arms, findings, undecided_fails
    )


def _lines(
    joined: Joined, arm: PairedArm, rules: Sequence[Rule], confidence: float, keep_disturbed: bool
) -> list[MetricChange]:
    of = {rule.metric: rule for rule in rules}
    of_any = joined_setup(joined.base.told("settings")).columns  # a rule may be about other arms
    columns = {**of_any, **arm.setup.columns}
    found = [
        _line(
            arm,
            arm.pairs(metric, keep_disturbed),
            metric,
            columns[metric],
            of.get(metric),
            confidence,
        )
        for metric in dict.fromkeys((*arm.setup.metrics, *of))
    ]
    return [line for line in found if line.contrast.n or line.metric in of]


def _line(
    arm: PairedArm, pairs: Pairs, metric: str, column: Column, rule: Rule | None, confidence: float
) -> MetricChange:
    relative = rule.relative if rule else is_relative(metric, column)
    if relative:
        pairs = _with_ratio(pairs)
    contrast = difference(
        pairs.new,
        pairs.base,
        relative=relative,
        confidence=confidence,
        least=LEAST_TIMES if metric in TIMINGS else LEAST,
        pairs=arm.is_paired,
    )
    judgement = judge(
        contrast,
        arm.ends(metric, relative),
        margin=abs(rule.limit) if rule else None,
        lower_is_better=not column.more_is_better,
        least_seeds=least_seeds(column),
    )
    if not pairs.decides and judgement.verdict is not Verdict.IDENTICAL:
        judgement = Judgement(Verdict.NOT_AVAILABLE, "every pair was disturbed from outside")
    return MetricChange(metric, column, pairs, contrast, judgement)


def _with_ratio(pairs: Pairs) -> Pairs:
    """Without the seeds that have a figure of 0 or less: it was not measured, or has no ratio."""
    sides = (pairs.base, pairs.new)
    without = {seed for side in sides for seed, figure in side.items() if figure <= 0}
    base, new = ({seed: side[seed] for seed in side if seed not in without} for side in sides)
    return replace(pairs, base=base, new=new)


def _findings(arms: Sequence[Compared], rules: Sequence[Rule]) -> list[RuleResult]:
    found = [_failed_cells(compared.arm) for compared in arms if compared.arm.newly_failed]
    for rule in rules:
        found += [_decide(compared, rule) for compared in arms]
        if not arms:
            found.append(RuleResult(rule, None, GateStatus.UNDECIDED, "the versions share no arm"))
    return found


def _missing(joined: Joined) -> list[RuleResult]:
    """What BASE has and NEW has not: a rule that is kept by the rest is not known to be kept."""
    arms = [
        RuleResult(None, label, GateStatus.UNDECIDED, "this arm is only in BASE")
        for label in joined.only_base
    ]
    for arm in joined.arms:
        if missing := len(arm.only_base):
            why = f"{missing} of {missing + len(arm.seeds)} seeds ended only in BASE"
            arms.append(RuleResult(None, arm.label, GateStatus.UNDECIDED, why))
        for which, seeds in zip(("BASE", "NEW"), arm.untold, strict=True):
            if seeds:
                why = f"{seed_words(seeds)} tell no {arm.across} in {which}"
                arms.append(RuleResult(None, arm.label, GateStatus.UNDECIDED, why))
    return arms


def _failed_cells(arm: PairedArm) -> RuleResult:
    """A version that crashes has no figures that a rule could hold against it."""
    new = arm.newly_failed
    how = ", ".join(sorted(set(new.values())))
    why = f"{seed_words(new)} failed only in NEW ({how})"
    return RuleResult(None, arm.label, GateStatus.FAIL, why)


def _decide(compared: Compared, rule: Rule) -> RuleResult:
    """Fail only if the whole interval lies beyond the threshold, pass only if none of it does.

    And pass only if NEW has all figures that BASE has: those that it lacks may be its worst.
    """
    line, label = compared.line(rule.metric), compared.arm.label
    assert line is not None
    bounds, why = _bounds(line)
    if bounds is None:
        return RuleResult(rule, label, GateStatus.UNDECIDED, why)
    limit = rule.limit
    low, high = bounds.low, bounds.high
    if line.column.more_is_better:
        low, high, limit = -high, -low, -limit
    if low > limit + ROUNDING:
        return RuleResult(rule, label, GateStatus.FAIL, why)
    if missing := compared.arm.lacking(rule.metric, line.contrast.relative)[1]:
        why = f"{seed_words(missing)} ended in NEW without this figure"
        return RuleResult(rule, label, GateStatus.UNDECIDED, why)
    if high <= limit + ROUNDING:
        return RuleResult(rule, label, GateStatus.PASS, why)
    return RuleResult(rule, label, GateStatus.UNDECIDED, "the interval holds the threshold")


def _bounds(line: MetricChange) -> tuple[Interval | None, str]:
    """The interval that a rule is held against, or None; and why, where that is not plain.

    A figure that changes by the same amount at every seed has no variance, hence no interval: it
    does not depend on the seed (a size in memory), and its change is what it is.
    """
    contrast, needed = line.contrast, least_seeds(line.column)
    if not contrast.n:
        which = "a figure above 0" if contrast.relative else "this figure"
        return None, f"nothing can be compared: no seed has {which} on both sides"
    if contrast.is_zero:
        return Interval(0.0, 0.0), "identical at every seed"
    if not line.pairs.decides:
        return None, "every pair was disturbed from outside"
    if contrast.n < needed:
        what = "pairs" if contrast.is_paired else "runs on each side"
        return None, f"{contrast.n} of the {needed} {what} that it needs"
    if contrast.is_constant:
        low, high = min(contrast.values), max(contrast.values)
        same = "change at every seed" if contrast.is_paired else "figure in all runs of each side"
        return Interval(low, high), f"the same {same}"
    return contrast.interval, ""
