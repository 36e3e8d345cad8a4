"""Contrasts: a difference a seed, or of means where seeds make no pairs; each with a t interval."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from bench.statistics.interval import (
    LEAST,
    Interval,
    is_constant,
    t_interval,
    welch_freedom,
    welch_interval,
)
from bench.statistics.pooled import Pooled

BySeed = Mapping[int, float]  # one figure a seed; a seed without a figure is absent


@dataclass(frozen=True)
class Contrast:
    """What one arm has more than another, seed by seed.

    Where seeds make no pairs it is a sum of means: of `by_seed`, the first arm's figures, and of
    the others', each with the sign that it has in the sum.

    Where `relative`, values are differences of natural logarithms: 0.05 is a ratio of 1.051. Times
    are compared so: their noise multiplies.
    """

    by_seed: BySeed  # one difference a seed
    relative: bool
    confidence: float  # of the interval, such as 0.95
    scale: float = 0.0  # the largest figure that went in, without its sign: rounding goes with it
    least: int | None = LEAST  # the fewest seeds that have an interval; None: no number of them has
    others: tuple[BySeed, ...] = ()  # empty: seeds are pairs
    pooled: Pooled | None = None  # the variance of all arms, in place of its own
    unit: str = "seed"  # what a figure is of, for readers: or a study, a machine

    @property
    def groups(self) -> tuple[BySeed, ...]:
        """What varies by itself: the differences, or each arm's figures."""
        return (self.by_seed, *self.others)

    @property
    def is_paired(self) -> bool:
        return not self.others

    @property
    def n(self) -> int:
        """Pairs; without them, the runs of the arm that has fewest."""
        return min(map(len, self.groups))

    @property
    def seeds(self) -> list[set[int]]:
        """That it is over, of each group."""
        return [set(group) for group in self.groups]

    @property
    def values(self) -> list[float]:
        """The differences that were seen: one a seed; without pairs that of the means alone."""
        if self.is_paired or not self.n:
            return list(self.by_seed.values()) if self.is_paired else []
        return [math.fsum(map(statistics.fmean, self._figures))]

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.n else None

    @property
    def sd(self) -> float | None:
        """Sample standard deviation (ddof = 1) of a difference; None with fewer than two seeds.

        Without pairs it is that of one run of each arm.
        """
        if self.n < 2:
            return None
        if self.pooled:
            return math.sqrt(2 * self.pooled.variance)
        if self.is_paired:
            return statistics.stdev(self.values)
        return math.hypot(*map(statistics.stdev, self._figures))

    @property
    def freedom(self) -> float:
        """Degrees of freedom that a seed more adds: 1 of pairs, up to 2 of two arms without them.

        With a variance of all arms, about one for each of them.

        Of a contrast that has a standard deviation above 0.
        """
        if self.pooled:
            return self.pooled.freedom / (self.n - 1)
        if self.is_paired:
            return 1.0
        return welch_freedom([*map(statistics.variance, self._figures)], [1.0] * len(self.groups))

    @property
    def interval(self) -> Interval | None:
        """None where it cannot be computed: too few seeds, or no variance."""
        if self.pooled and self.mean is not None and self.least is not None and self.n > 1:
            half = self.pooled.half_width(self._sizes, self.confidence)
            return Interval(self.mean - half, self.mean + half)
        if self.is_paired:
            return t_interval(self.values, self.confidence, self.scale, self.least)
        return welch_interval(self._figures, self.confidence, self.scale, self.least)

    @property
    def is_zero(self) -> bool:
        """Whether the arms agree to the last digit at every seed; without pairs, in all runs."""
        alike = self.is_paired or all(len(set(group)) == 1 for group in self._figures)
        return bool(self.values) and not any(self.values) and alike

    @property
    def is_constant(self) -> bool:
        return self.n > 1 and all(is_constant(group, self.scale) for group in self._figures)

    @property
    def range(self) -> Interval | None:
        """From the smallest difference to the largest; None where there is none."""
        return Interval(min(self.values), max(self.values)) if self.n else None

    @property
    def _sizes(self) -> list[int]:
        """How many figures of each of two arms."""
        return [self.n, self.n] if self.is_paired else [len(group) for group in self.groups]

    @property
    def _figures(self) -> list[list[float]]:
        return [list(group.values()) for group in self.groups]

    def in_unit(self, value: float) -> float:
        """A value as a reader takes it: a difference in the metric's unit, or a share (0.05)."""
        return math.expm1(value) if self.relative else value


def difference(
    new: BySeed,
    base: BySeed,
    *,
    relative: bool,
    confidence: float,
    least: int | None = LEAST,
    pairs: bool = True,
) -> Contrast:
    """new - base (or the logarithm of new / base) at every seed that both have.

    Without pairs, that of their means.

    Raises:
        ValueError: for a figure that is not finite, or of 0 or less where `relative`.
    """
    sum_of = combined if pairs else unpaired
    return sum_of((1, new), (-1, base), relative=relative, confidence=confidence, least=least)


def unpaired(
    *terms: tuple[int, BySeed], relative: bool, confidence: float, least: int | None = LEAST
) -> Contrast:
    """The sum of sign · mean figure (or mean logarithm), of all seeds that each term has.

    Terms of sign 0 have no part in it; those of sign 1 come first.

    Raises:
        ValueError: for a figure that is not finite, or of 0 or less where `relative`.
    """
    first, *others = (
        {seed: sign * _on_scale(figure, relative) for seed, figure in sorted(figures.items())}
        for sign, figures in sorted(terms, key=lambda term: -term[0])
        if sign
    )
    figures = (abs(figure) for group in (first, *others) for figure in group.values())
    scale = max(figures, default=0.0)
    scale = max(1.0, scale) if relative else scale
    return Contrast(first, relative, confidence, scale, least, tuple(others))


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
