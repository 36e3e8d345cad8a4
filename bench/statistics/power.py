"""How many seeds would decide, if the true difference were the margin."""

import math
from bisect import bisect_left
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.stats import chi2, nct, t

from bench.statistics.interval import CONFIDENCE

POWER = 0.8  # chance of deciding; the convention of Cohen, "Statistical Power Analysis" (1988)
MOST_SEEDS = 10_000  # beyond, the answer is "more"
FARTHEST = 1e5  # standard deviations: two seeds find a difference of some thousand

# A larger noncentrality adds nothing to a power of 1, and scipy's noncentral t then gives NaN.
LARGEST_NONCENTRALITY = 1e6


@dataclass(frozen=True)
class SeedsNeeded:
    """Seeds that would decide, if the standard deviation is as small, or as large, as may be."""

    low: int | None  # None: more than MOST_SEEDS
    high: int | None


def power(n: int, sd: float, difference: float, alpha: float, freedom: float = 1.0) -> float:
    """The chance that a two-sided t test over n seeds finds a true difference of this size.

    By the noncentral t distribution with `freedom` · (n - 1) degrees of freedom and noncentrality
    difference · √n / sd; the far tail, a rejection with the wrong sign, does not count. `sd` is
    that of a difference, and `freedom` 1, of pairs; without them see Contrast.
    """
    degrees = freedom * (n - 1)
    critical = t.isf(alpha / 2, degrees)
    noncentrality = min(abs(difference) * math.sqrt(n) / sd, LARGEST_NONCENTRALITY)
    return float(nct.sf(critical, degrees, noncentrality))


def seeds_for(
    sd: float, difference: float, alpha: float, least: int, freedom: float = 1.0
) -> int | None:
    """The fewest seeds (at least `least` ≥ 2) with a power of POWER; None: over MOST_SEEDS."""
    seeds = range(least, MOST_SEEDS + 1)  # power grows with n
    index = bisect_left(seeds, POWER, key=lambda n: power(n, sd, difference, alpha, freedom))
    return seeds[index] if index < len(seeds) else None


def difference_found(n: int, sd: float, alpha: float, freedom: float = 1.0) -> float:
    """The smallest true difference that n ≥ 2 seeds find with a chance of POWER."""
    return float(
        brentq(lambda found: power(n, sd, found, alpha, freedom) - POWER, 0.0, sd * FARTHEST)
    )


def seeds_to_decide(
    sd: float, n: int, margin: float, alpha: float, least: int, freedom: float = 1.0
) -> SeedsNeeded:
    """The range of seeds_for over the interval of a standard deviation seen on n seeds.

    With k degrees of freedom, `freedom` · (n - 1) of them, k sd² / σ² is chi-square of k, for
    normal differences.
    """
    tail, degrees = (1 - CONFIDENCE) / 2, freedom * (n - 1)
    ends = float(chi2.isf(tail, degrees)), float(chi2.ppf(tail, degrees))
    low, high = (sd * math.sqrt(degrees / end) for end in ends)
    return SeedsNeeded(
        seeds_for(low, margin, alpha, least, freedom),
        seeds_for(high, margin, alpha, least, freedom),
    )
