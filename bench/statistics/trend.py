"""One figure more in a row of them: is it another than those before? Numbers in, numbers out."""

import math
import statistics
from collections.abc import Sequence

from scipy.stats import t

from bench.statistics.contrast import BySeed, Contrast, difference, unpaired
from bench.statistics.interval import Interval
from bench.statistics.spread import over_seeds


def prediction_interval(values: Sequence[float], confidence: float) -> Interval:
    """Where the next value lies, if it comes from where these come from: normal, independent.

    mean ± t(1 - (1 - confidence) / 2; n - 1) · sd · √(1 + 1/n), of two or more values. Equal values
    give an interval without a width.

    Hahn and Meeker, "Statistical Intervals" (1991), section 4.7.
    """
    n = len(values)
    half = float(t.isf((1 - confidence) / 2, n - 1)) * math.sqrt(1 + 1 / n)
    half *= statistics.stdev(values)
    mean = statistics.fmean(values)
    return Interval(mean - half, mean + half)


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
