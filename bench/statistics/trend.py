"""One figure more in a row of them: is it another than those before? Numbers in, numbers out."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

from bench.statistics.contrast import BySeed, Contrast, difference, unpaired
from bench.statistics.interval import Interval
from bench.statistics.spread import over_seeds


def prediction_interval(levels: Sequence[Sequence[float]], confidence: float) -> Interval:
    """Where the next value lies, if it comes from where the last level's come from.

    mean ± t(1 - (1 - confidence) / 2; freedom) · s · √(1 + 1/n), of that level's n values, normal
    and independent. All levels have one variance: s² is pooled over them, each about its own mean.
    Equal values give an interval without a width.

    Hahn and Meeker, "Statistical Intervals" (1991), section 4.7, is the case of one level.
    """
    *_, last = levels
    free = freedom(levels)
    half = float(t.isf((1 - confidence) / 2, free)) * math.sqrt(1 + 1 / len(last))
    squares = (statistics.variance(level) * (len(level) - 1) for level in levels if len(level) > 1)
    half *= math.sqrt(math.fsum(squares) / free)
    mean = statistics.fmean(last)
    return Interval(mean - half, mean + half)


def freedom(levels: Sequence[Sequence[object]]) -> int:
    """Degrees of freedom of a variance that is pooled over levels: a mean each takes one."""
    return sum(len(level) - 1 for level in levels)


def against_mean(
    new: BySeed, references: Sequence[BySeed], *, confidence: float, least: int, pairs: bool = True
) -> Contrast:
    """New figures less those of the same seed, averaged over the references that have it.

    Where seeds make no pairs: the mean of all new figures less that of all others.
    """
    if pairs:
        seeds = {seed for figures in references for seed in figures}
        repeats = {seed: [each[seed] for each in references if seed in each] for seed in seeds}
        base = over_seeds(repeats).by_seed
        return difference(new, base, relative=False, confidence=confidence, least=least)
    pooled = dict(enumerate(figure for each in references for figure in each.values()))
    terms = (1, new), (-1, pooled)
    return unpaired(*terms, relative=False, confidence=confidence, least=least)
