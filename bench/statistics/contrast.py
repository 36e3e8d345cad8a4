"""Contrasts: one difference a seed, its mean, and a t interval of n - 1 degrees of freedom."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from bench.statistics.interval import LEAST, Interval, is_constant, t_interval

BySeed = Mapping[int, float]  # one figure a seed; a seed without a figure is absent


@dataclass(frozen=True)
class Contrast:
    """What one arm has more than another, seed by seed.

    Where `relative`, values are differences of natural logarithms: 0.05 is a ratio of 1.051. Times
    are compared so: their noise multiplies.
    """

    by_seed: BySeed
    relative: bool
    confidence: float  # of the interval, such as 0.95
    scale: float = 0.0  # the largest figure that went in, without its sign: rounding goes with it
    least: int | None = LEAST  # the fewest seeds that have an interval; None: no number of them has

    @property
    def n(self) -> int:
        return len(self.by_seed)

    @property
    def values(self) -> list[float]:
        return list(self.by_seed.values())

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.by_seed else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (ddof = 1); None with fewer than two seeds."""
        return statistics.stdev(self.values) if self.n > 1 else None

    @property
    def interval(self) -> Interval | None:
        """None where it cannot be computed: too few seeds, or no variance."""
        return t_interval(self.values, self.confidence, self.scale, self.least)

    @property
    def is_zero(self) -> bool:
        """Whether the arms agree to the last digit at every seed."""
        return bool(self.by_seed) and not any(self.by_seed.values())

    @property
    def is_constant(self) -> bool:
        return self.n > 1 and is_constant(self.values, self.scale)

    def in_unit(self, value: float) -> float:
        """A value as a reader takes it: a difference in the metric's unit, or a share (0.05)."""
        return math.expm1(value) if self.relative else value


def paired(
    new: BySeed,
    base: BySeed,
    *,
    relative: bool,
    confidence: float,
    least: int | None = LEAST,
) -> Contrast:
    """new - base (or the logarithm of new / base) at every seed that both have.

    Raises:
        ValueError: for a figure that is not finite, or of 0 or less where `relative`.
    """
    terms = (1, new), (-1, base)
    return combined(*terms, relative=relative, confidence=confidence, least=least)


def combined(
    *terms: tuple[int, BySeed], relative: bool, confidence: float, least: int | None = LEAST
) -> Contrast:
    """The sum of sign · figure at every seed that all terms have.

    Raises:
        ValueError: for a figure that is not finite, or of 0 or less where `relative`.
    """
    seeds = sorted(set.intersection(*(set(figures) for _, figures in terms)))
    parts = {
        seed: [sign * _on_scale(figures[seed], relative) for sign, figures in terms]
        for seed in seeds
    }
    largest = max((abs(part) for each in parts.values() for part in each), default=0.0)
    scale = max(1.0, largest) if relative else largest  # a logarithm near 0 is rounded as its ratio
    by_seed = {seed: math.fsum(each) for seed, each in parts.items()}
    return Contrast(by_seed, relative, confidence, scale, least)


def _on_scale(figure: float, relative: bool) -> float:
    if not math.isfinite(figure) or (relative and figure <= 0):
        raise ValueError(f"{figure} has no {'logarithm' if relative else 'place in a mean'}")
    return math.log(figure) if relative else figure


def correlation(new: BySeed, base: BySeed) -> float | None:
    """Pearson's r over the seeds that both have: what pairing buys.

    The variance of a difference is var(new) + var(base) - 2 r sd(new) sd(base). None with fewer
    than three seeds (two always lie on a line) or where one side does not vary.
    """
    seeds = sorted(set(new) & set(base))
    if len(seeds) < 3:
        return None
    left, right = [new[seed] for seed in seeds], [base[seed] for seed in seeds]
    if is_constant(left) or is_constant(right):
        return None
    try:
        return statistics.correlation(left, right)
    except statistics.StatisticsError:  # figures so small that their squares are 0
        return None
