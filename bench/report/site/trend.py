"""The figures of an arm from bundle to bundle, and where an interval says that they changed.

Each figure is compared with those since the last change that was found. What bundles differ by is
known from those before it as well, each stretch about its own mean. All that a page marks holds
together at 95 %: a bundle has a fiftieth of the 5 %, shared out among its figures (Bonferroni). So
no mark depends on how many bundles there are, or come later.
"""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.records.columns import SETTLED
from bench.records.kinds import LOSS, Column
from bench.report.site.facts import FIGURES, BundleArm, BundleFacts, BundleMetric
from bench.statistics.interval import ROUNDING, Interval
from bench.statistics.trend import against_mean, freedom, prediction_interval
from bench.statistics.verdict import ALPHA, LEAST_SEEDS_LOSS

MOST_BUNDLES = 50  # of a site, and of what the 5 % are shared out among

# Bundles of one machine before a time of it is compared, and one more for each change among them.
# With fewer, a normal spread is known so badly that nothing but a multiple of a time lies outside
# of it.
LEAST_BUNDLES = 5

# A time or a size that changed by less is no mark: memory repeats to the page, and a thousandth
# more of it would be one.
LEAST_CHANGE = math.log(1.01)


@dataclass(frozen=True)
class Change:
    """What one figure has more than the bundles before it."""

    amount: float  # a difference, or of a ratio its logarithm
    interval: Interval  # on the same scale
    relative: bool
    worse: bool


@dataclass(frozen=True)
class TrendPoint:
    bundle: int  # its place among the bundles, oldest first
    mean: float
    machine: tuple[str, str]
    decides: bool
    change: Change | None
    level: int  # how many changes of this figure were found up to here, on its machine


@dataclass(frozen=True)
class Trend:
    """One metric of one arm through all bundles."""

    metric: str
    column: Column
    points: tuple[TrendPoint, ...]


@dataclass(frozen=True)
class Failures:
    """Seeds of an arm that did not end ok, and did, or were not there, in the bundle before."""

    bundle: int
    seeds: int  # of the arm in this bundle
    statuses: Mapping[str, int]  # of the seeds that are new among the failed


@dataclass(frozen=True)
class ArmTrend:
    series: str
    label: str
    trends: tuple[Trend, ...]  # FIGURES of them, the loss first
    failures: tuple[Failures, ...]


def arm_trends(bundles: Sequence[BundleFacts]) -> list[ArmTrend]:
    """All arms of bundles that are in order of time; those of the newest bundle come first."""
    order = {
        series: label for bundle in reversed(bundles) for series, label in bundle.labels.items()
    }
    labels = _apart(order)
    return [
        ArmTrend(series, labels[series], _trends(series, bundles), _failures(series, bundles))
        for series in order
    ]


def _apart(labels: Mapping[str, str]) -> dict[str, str]:
    """With digits of the arm_id where two arms have the same names: other settings, mostly."""
    count = Counter(labels.values())
    return {
        series: label if count[label] == 1 else f"{label} ({series[:6]})"
        for series, label in labels.items()
    }


def _trends(series: str, bundles: Sequence[BundleFacts]) -> tuple[Trend, ...]:
    found = [_Chains() for _ in range(FIGURES)]
    for place, bundle in enumerate(bundles):
        for arm in bundle.arms:
            if arm.series == series:
                for chains, metric in zip(found, arm.metrics, strict=True):
                    chains.add(place, arm, metric, _confidence(bundle))
    return tuple(chains.trend() for chains in found if chains.points)


def _confidence(bundle: BundleFacts) -> float:
    """Of each interval: whatever other bundles there are."""
    return 1 - ALPHA / (MOST_BUNDLES * FIGURES * len(bundle.arms))


Levels = list[list[BundleMetric]]  # from change to change; the last is what is compared with


@dataclass
class _Chains:
    """One metric of one arm, bundle by bundle: losses from anywhere, all else by machine."""

    chains: dict[tuple[str, str], Levels] = field(default_factory=dict)
    points: list[TrendPoint] = field(default_factory=list)
    latest: BundleMetric | None = None

    def add(self, bundle: int, arm: BundleArm, metric: BundleMetric, confidence: float) -> None:
        if metric.mean is None:
            return
        is_loss = metric.column.kind == LOSS
        machine = ("", "") if is_loss else arm.machine
        decides = metric.decides and (is_loss or (bool(arm.host_id) and metric.mean > 0))
        if self.latest and self.latest.name != metric.name:  # a program that prints another loss
            self.chains.clear()
        self.latest = metric
        levels = self.chains.setdefault(machine, [[]])
        change = None
        if decides:
            if is_loss:
                change = _change_of_loss(metric, levels[-1], confidence, arm.is_paired)
            else:
                change = _change_of_ratio(metric, levels, confidence)
            if change:
                levels.append([])
            levels[-1].append(metric)
        at, level = arm.machine, len(levels) - 1
        self.points.append(TrendPoint(bundle, metric.mean, at, decides, change, level))

    def trend(self) -> Trend:
        assert self.latest is not None
        return Trend(self.latest.name, self.latest.column, tuple(self.points))


def _change_of_loss(
    metric: BundleMetric, before: Sequence[BundleMetric], confidence: float, pairs: bool
) -> Change | None:
    """Seed by seed, for the same code gives the same loss at a seed."""
    contrast = against_mean(
        metric.by_seed,
        [each.by_seed for each in before],
        confidence=confidence,
        least=LEAST_SEEDS_LOSS,
        pairs=pairs,
    )
    amount, interval = contrast.mean, contrast.interval
    if amount is None or contrast.n < LEAST_SEEDS_LOSS:
        return None
    if contrast.is_constant:  # a shift without any spread, or none at all
        interval = Interval(amount, amount)
    if interval is None or not interval.excludes(0) or abs(amount) <= ROUNDING * contrast.scale:
        return None
    return _change(metric, amount, interval, relative=False)


def _change_of_ratio(metric: BundleMetric, levels: Levels, confidence: float) -> Change | None:
    """Bundle by bundle: what slows a machine down for a while does so for all seeds alike.

    How far bundles spread is known from all levels, so that a change of one bundle is told from
    one that stays, and neither makes the page blind to the next.
    """
    if freedom(levels) < LEAST_BUNDLES - 1:
        return None
    logs = [[math.log(each.mean) for each in level if each.mean is not None] for level in levels]
    assert metric.mean is not None
    value = math.log(metric.mean)
    expected = prediction_interval(logs, confidence)
    amount = value - statistics.fmean(logs[-1])
    if not expected.excludes(value) or abs(amount) < LEAST_CHANGE:
        return None
    interval = Interval(value - expected.high, value - expected.low)
    return _change(metric, amount, interval, relative=True)


def _change(metric: BundleMetric, amount: float, interval: Interval, relative: bool) -> Change:
    worse = amount < 0 if metric.column.more_is_better else amount > 0
    return Change(amount, interval, relative, worse)


def _failures(series: str, bundles: Sequence[BundleFacts]) -> tuple[Failures, ...]:
    found, before = [], None
    for place, bundle in enumerate(bundles):
        ends = bundle.ends.get(series)
        if ends is None:
            continue
        if before is not None:
            new = [
                status
                for seed, status in ends.items()
                if _badness(status) > _badness(before.get(seed, "ok"))
            ]
            if new:
                found.append(Failures(place, len(ends), Counter(sorted(new))))
        before = ends
    return tuple(found)


def _badness(status: str) -> int:
    """0: ok; 1: it did not come to an end, such as skipped; 2: it failed."""
    return 0 if status == "ok" else 2 if status in SETTLED else 1
