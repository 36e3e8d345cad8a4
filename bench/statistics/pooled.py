"""One standard deviation for all arms, where each has too few seeds to know its own.

Four arms of three seeds know it as well as nine seeds of one would, if their noise is alike.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import bartlett, t

# With two seeds each a spread that differs could not be seen at all.
LEAST_SEEDS = 3
# Spreads differ clearly below this p value: of arms alike, one in twenty is refused by chance.
ALIKE = 0.05


@dataclass(frozen=True)
class Pooled:
    """The variance of one figure of any arm, and its degrees of freedom."""

    variance: float
    freedom: int

    def half_width(self, sizes: Sequence[int], confidence: float) -> float:
        """Of the interval of a difference of two means, over so many figures each."""
        error = math.sqrt(self.variance * sum(1 / n for n in sizes))
        return float(t.isf((1 - confidence) / 2, self.freedom)) * error


def pooled(arms: Sequence[Sequence[float]]) -> tuple[Pooled | None, str]:
    """(the variance within arms, why it cannot be had). Arms with one figure tell nothing of it.

    What the arms of a seed share is in it, so that a difference of pairs has less: an interval by
    it is too wide rather than too narrow. Whether spreads differ is Bartlett's test (1937).
    """
    known = [list(arm) for arm in arms if len(arm) > 1]
    if not known:
        return None, "no configuration has two seeds"
    variances = [statistics.variance(arm) for arm in known]
    freedoms = [len(arm) - 1 for arm in known]
    if not all(variances):
        return None, "a configuration has no variance, so that there is none for all of them"
    if len(known) > 1 and (p_value := float(bartlett(*known).pvalue)) < ALIKE:
        return None, f"spreads differ clearly (Bartlett, p = {p_value:.2g}): none is pooled"
    total = math.fsum(v * f for v, f in zip(variances, freedoms, strict=True))
    return Pooled(total / sum(freedoms), sum(freedoms)), ""
