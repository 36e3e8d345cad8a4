"""Mean and spread over seeds. Pure functions: numbers in, numbers out."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.statistics.interval import CONFIDENCE, LEAST, Interval, t_interval


@dataclass(frozen=True)
class Spread:
    """One metric of one arm over its seeds, in the metric's own unit."""

    by_seed: Mapping[int, float]  # repeats of a seed averaged; seeds without a figure are absent
    mean: float | None  # None: no seed has a figure
    sd: float | None  # sample standard deviation (ddof = 1); None with fewer than two seeds
    least: int | None = LEAST  # the fewest seeds that have an interval; None: no number of them has

    @property
    def n(self) -> int:
        return len(self.by_seed)

    @property
    def interval(self) -> Interval | None:
        """Student's, of the mean; None with too few seeds or no variance."""
        return t_interval(list(self.by_seed.values()), CONFIDENCE, least=self.least)


def over_seeds(figures: Mapping[int, Sequence[float | None]], least: int | None = LEAST) -> Spread:
    """Average each seed's repeats, then take mean and standard deviation over the seeds.

    Repeats come first: a seed that ran on three occasions is still one seed, and must neither
    count three times in n nor weigh three times in the mean. Unknown figures (None) are left out.
    """
    by_seed: dict[int, float] = {}
    for seed, repeats in sorted(figures.items()):
        known = [figure for figure in repeats if figure is not None]
        if known:
            by_seed[seed] = statistics.fmean(known)
    values = list(by_seed.values())
    return Spread(
        by_seed=by_seed,
        mean=statistics.fmean(values) if values else None,
        sd=statistics.stdev(values) if len(values) > 1 else None,
        least=least,
    )
