"""Intervals from few seeds: Student's t of a mean, or of a sum of independent ones; of a share."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import binomtest, t

# The interval of a time from two seeds says nothing: a machine's noise is no normal one, and with
# one degree of freedom it runs from none of a time to hundreds of it.
LEAST, LEAST_TIMES = 2, 3

CONFIDENCE = 0.95  # of an interval that stands by itself, apart from all comparisons

# A spread below this share of the figures is what rounding of doubles leaves of none.
ROUNDING = 1e-12


@dataclass(frozen=True)
class Interval:
    """A closed interval, in the unit of its figures."""

    low: float
    high: float

    def excludes(self, value: float) -> bool:
        return value < self.low or value > self.high

    def within(self, low: float, high: float) -> bool:
        return low <= self.low and self.high <= high


def t_interval(
    values: Sequence[float], confidence: float, scale: float = 0.0, least: int | None = LEAST
) -> Interval | None:
    """mean ± half_width, two-sided.

    None where it cannot be computed: fewer than `least` ≥ 2 values (None: however many), or no
    variance among them beyond the rounding of figures as large as `scale`, from which they were
    computed.
    """
    if least is None or len(values) < least or is_constant(values, scale):
        return None
    mean = statistics.fmean(values)
    half = half_width(statistics.stdev(values), len(values), confidence)
    return Interval(mean - half, mean + half)


def half_width(sd: float, n: int, confidence: float) -> float:
    """t(1 - (1 - confidence) / 2; n - 1) · sd / √n."""
    return float(t.isf((1 - confidence) / 2, n - 1)) * sd / math.sqrt(n)


def welch_interval(
    groups: Sequence[Sequence[float]], confidence: float, scale: float, least: int | None
) -> Interval | None:
    """The sum of the groups' means ± half its width, two-sided; no variance is pooled.

    Welch, "The generalization of Student's problem" (1947), with Satterthwaite's degrees of
    freedom. None as for `t_interval`: where a group is too small, or none of them varies.
    """
    if least is None or min(map(len, groups)) < least:
        return None
    if all(is_constant(group, scale) for group in groups):
        return None
    mean = math.fsum(map(statistics.fmean, groups))
    parts = [statistics.variance(group) / len(group) for group in groups]
    freedom = welch_freedom(parts, [len(group) - 1 for group in groups])
    half = float(t.isf((1 - confidence) / 2, freedom)) * math.sqrt(sum(parts))
    return Interval(mean - half, mean + half)


def welch_freedom(variances: Sequence[float], freedoms: Sequence[float]) -> float:
    """Degrees of freedom of a sum of variances, each of so many: Satterthwaite (1946)."""
    largest = max(variances)  # squares of small ones would be 0
    shares = [variance / largest for variance in variances]
    parts = zip(shares, freedoms, strict=True)
    return sum(shares) ** 2 / sum(share**2 / freedom for share, freedom in parts)


def share_interval(hits: int, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Of a share of n ≥ 1 independent tries: exact, Clopper and Pearson (1934)."""
    found = binomtest(hits, n).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high))


def is_constant(values: Sequence[float], scale: float = 0.0) -> bool:
    """Whether values are equal but for rounding: a variance of 0 says nothing of the next seed.

    The differences of large figures carry the rounding of those: `scale` is the largest of them.
    """
    return max(values) - min(values) <= ROUNDING * max(scale, *map(abs, values))
