"""The error of a mean over a text, whose windows are like their neighbours."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# With fewer there are too few blocks to see how blocks differ.
LEAST_VALUES = 30
# Politis and White's own choices: below so many standard errors a correlation is taken for none,
# if so many further ones are none either.
NONE_BELOW = 2.0
NONE_IN_A_ROW = 5


def error_of_mean(values: Array) -> float | None:
    """The standard error of the mean of a series (n,), by the circular block bootstrap.

    Blocks of neighbours are drawn whole (Politis and Romano 1992). Of a mean the variance over all
    resamples has a closed form, so that nothing is drawn at random: that of the means of all n
    blocks, over the number of blocks in a series. None of too short a series.
    """
    n = len(values)
    if n < LEAST_VALUES:
        return None
    length = block_length(values)
    sums = np.cumsum(np.concatenate([[0.0], values, values[: length - 1]]))
    means = (sums[length:] - sums[:-length]) / length  # (n,)
    # Over the share that blocks leave: a mean is nearer to its own blocks than to others.
    return math.sqrt(float(means.var()) * length / n / (1 - length / n))


def block_length(values: Array) -> int:
    """How many neighbours a block needs, by how far values are like each other.

    The rule of Politis and White (2004, corrected 2009) for circular blocks: correlations are
    weighted by a flat top that ends at twice the last one that is none by chance.
    """
    n = len(values)
    farthest = math.ceil(math.sqrt(n)) + NONE_IN_A_ROW
    covariances = _covariances(values - values.mean(), farthest)  # (farthest + 1,)
    if not covariances[0] > 0:
        return 1
    far = min(2 * _last_correlated(covariances / covariances[0], n), farthest)
    lags = np.arange(1, far + 1)
    weights = np.minimum(1.0, 2 * (1 - lags / max(far, 1)))
    weighted = weights * covariances[1 : far + 1]
    slope, level = 2 * float((lags * weighted).sum()), covariances[0] + 2 * float(weighted.sum())
    if not slope or not level:
        return 1
    length: float = (2 * slope**2 / (4 / 3 * level**2)) ** (1 / 3) * n ** (1 / 3)
    return max(1, math.ceil(min(length, 3 * math.sqrt(n), n / 3)))


def _covariances(values: Array, farthest: int) -> Array:
    """At each lag from 0, of values whose mean is 0."""
    n = len(values)
    return np.array([float(values[lag:] @ values[: n - lag]) / n for lag in range(farthest + 1)])


def _last_correlated(correlations: Array, n: int) -> int:
    """The last lag before as many in a row as say that there is no more."""
    none = np.abs(correlations[1:]) < NONE_BELOW * math.sqrt(math.log10(n) / n)
    for lag in range(len(none) - NONE_IN_A_ROW + 1):
        if none[lag : lag + NONE_IN_A_ROW].all():
            return lag
    return len(none)
