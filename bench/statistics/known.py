"""A mean against a fixed target, where the deviation of a run is known from elsewhere.

modded-nanogpt's rule for a record, (target - mean) · √n ≥ c, is this z test: c is the deviation
that was measured once, times the normal quantile of the level.
"""

import math
from dataclasses import dataclass

from scipy.stats import norm, t


@dataclass(frozen=True)
class KnownDeviation:
    """The test of n runs with this mean, one-sided at `alpha`."""

    distance: float  # target less mean: above 0 is under the target
    n: int
    sd: float  # of one run
    alpha: float

    @property
    def score(self) -> float:
        """distance · √n."""
        return self.distance * math.sqrt(self.n)

    @property
    def needed(self) -> float:
        """The c that the score must reach."""
        return float(norm.isf(self.alpha)) * self.sd

    @property
    def is_under(self) -> bool:
        return self.score >= self.needed

    @property
    def runs_needed(self) -> int | None:
        """How many would decide at this mean; None: no number of them."""
        if self.distance <= 0:
            return None
        return max(1, math.ceil((self.needed / self.distance) ** 2 - 1e-9))


def runs_needed(distance: float, sd: float, alpha: float, least: int, most: int) -> int | None:
    """The fewest runs whose t test, at this distance and deviation, decides; None: over `most`."""
    if distance <= 0:
        return None
    enough = (n for n in range(least, most + 1) if _decides(distance, sd, alpha, n))
    return next(enough, None)


def _decides(distance: float, sd: float, alpha: float, n: int) -> bool:
    return float(t.isf(alpha, n - 1)) * sd / math.sqrt(n) <= distance
