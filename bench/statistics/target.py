"""Time, tokens or steps to a target loss: a miss is "not reached", never dropped."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

HELD = 2  # successive evaluations at or below the target: one dip is luck


def first_held(losses: Sequence[float], target: float) -> int | None:
    """The index of the first evaluation of HELD successive ones at or below the target."""
    held = 0
    for index, loss in enumerate(losses):
        held = held + 1 if loss <= target else 0
        if held == HELD:
            return index - HELD + 1
    return None


@dataclass(frozen=True)
class ToTarget:
    """What each seed of one arm spent until it held the target; None: not reached."""

    by_seed: Mapping[int, float | None]

    @property
    def n_reached(self) -> int:
        return sum(cost is not None for cost in self.by_seed.values())

    @property
    def median(self) -> float | None:
        """Over all seeds, a miss being longer than any; None: half of them or more missed it.

        With an even number of seeds, of which exactly half reached it, the middle lies between a
        cost and a miss, so that it is not reached either.
        """
        costs = [math.inf if cost is None else cost for cost in self.by_seed.values()]
        middle = statistics.median(costs) if costs else math.inf
        return middle if math.isfinite(middle) else None
