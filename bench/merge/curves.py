"""Loss curves of an arm: one a seed, a mean over seeds, the loss at equal cost. Pure."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.merge.arms import Arm
from bench.merge.reading import Array, Curve
from bench.statistics.interval import LEAST, LEAST_TIMES
from bench.statistics.spread import Spread, over_seeds

# What each evaluation of one of the arm's curves has cost so far; NaN where that is unknown.
Cost = Callable[[Arm, Curve], Array]

# Points of the common grid over seconds: finer than a printed line shows.
GRID = 200

# The share of each curve's evaluations, from the first, that does not decide the y-range. A model
# starts at the loss of guessing (4.5 for 90 characters) and sheds most of it in the first tenth of
# training; drawn in full, that would squash the part in which arms differ. It is cut off instead.
OPENING = 0.1


@dataclass(frozen=True)
class SeedCurve:
    """One seed's curve: x is a cost, y a validation loss, or what is named."""

    x: Array
    y: Array


@dataclass(frozen=True)
class Band:
    """The mean over an arm's seeds and its sample standard deviation (None: fewer than two)."""

    x: Array
    mean: Array
    sd: Array | None


def steps(arm: Arm, curve: Curve) -> Array:
    return curve.steps


def tokens(arm: Arm, curve: Curve) -> Array:
    return curve.tokens


def seconds(arm: Arm, curve: Curve) -> Array:
    return curve.train_time_s


def flops(arm: Arm, curve: Curve) -> Array:
    """Operations: forward and backward passes over the tokens, and the optimizer's steps."""
    each = flops_of(arm)
    if each is None:
        return np.full(len(curve), np.nan)
    return curve.tokens * each[0] + curve.steps * each[1]


def flops_of(arm: Arm) -> tuple[float, float] | None:
    """Operations a token, in all passes that a step makes over it, and of an optimizer's step."""
    per_token, per_step = arm.constant("flops_per_token"), arm.constant("optimizer_flops_per_step")
    if per_token is None or per_step is None:
        return None
    # Rows without the column are of built-in optimizers, which make one pass a step.
    return per_token * (arm.spread("passes_per_step").mean or 1), per_step


def seed_lines(arm: Arm, cost: Cost, figure: str = "val_loss") -> dict[int, SeedCurve]:
    """Seed -> a figure of its curve against `cost`; seeds without it are absent.

    Against seconds, they are those of the timing statistics.
    """
    by_seed = arm.timed_by_seed if cost is seconds else arm.by_seed
    if cost is seconds and not arm.timing.has("train_time_s"):
        return {}
    lines = {
        seed: _known(cost(arm, cell.curve), getattr(cell.curve, figure))
        for seed, cell in by_seed.items()
        if cell.curve
    }
    return {seed: line for seed, line in lines.items() if len(line.x)}


def _known(x: Array, y: Array) -> SeedCurve:
    """The evaluations of which cost and figure are known."""
    both = ~(np.isnan(x) | np.isnan(y))
    return SeedCurve(x[both], y[both])


def band_over_steps(lines: Sequence[SeedCurve]) -> Band | None:
    """The mean at the steps at which every seed was evaluated; None if there are none."""
    common = sorted(set.intersection(*(set(line.x.tolist()) for line in lines))) if lines else []
    return _band(lines, np.array(common), LEAST) if common else None


def band_over_seconds(lines: Sequence[SeedCurve]) -> Band | None:
    """The mean on a common grid that ends with the shortest seed; linear between evaluations.

    Its deviation is that of times as well, and needs as many seeds as they do.
    """
    if not lines:
        return None
    begin, end = max(line.x[0] for line in lines), min(line.x[-1] for line in lines)
    return _band(lines, np.linspace(begin, end, GRID), LEAST_TIMES) if begin < end else None


def _band(lines: Sequence[SeedCurve], x: Array, least: int) -> Band:
    losses = np.array([np.interp(x, line.x, line.y) for line in lines])  # (seeds, x)
    sd = losses.std(axis=0, ddof=1) if len(lines) >= least else None
    return Band(x, losses.mean(axis=0), sd)


def visible_range(lines: Sequence[SeedCurve], bands: Sequence[Band]) -> tuple[float, float] | None:
    """The lowest and highest loss to show; None without curves.

    The opening is counted in evaluations, not in x, so that a loss over steps and the same loss
    over seconds get one range.
    """
    late = [line.y[math.ceil(OPENING * (len(line.y) - 1)) :] for line in lines]
    if not late:
        return None
    under = [band.mean - band.sd for band in bands if band.sd is not None]
    lowest = min(float(losses.min()) for losses in [*late, *under])
    return lowest, max(float(losses.max()) for losses in late)


@dataclass(frozen=True)
class EqualCost:
    """Losses of several arms at one cost: the largest that all their seeds have reached."""

    cost: float | None  # in the unit of its Cost; None without curves
    losses: tuple[Spread, ...]  # one an arm; empty where the cost is unknown


def at_equal_cost(arms: Sequence[Arm], cost: Cost) -> EqualCost:
    """The loss of every arm where the cheapest seed ends; linear between evaluations.

    None of an arm of which some seed was not evaluated by then: what came later is no loss of it.
    """
    lines = [seed_lines(arm, cost) for arm in arms]
    ends = [float(line.x[-1]) for arm in lines for line in arm.values()]
    limit = min(ends, default=math.nan)
    losses = [{seed: [loss_at(line, limit)] for seed, line in arm.items()} for arm in lines]
    whole = ({} if [None] in found.values() else found for found in losses)
    return EqualCost(limit if ends else None, tuple(map(over_seeds, whole)))


def loss_at(line: SeedCurve, cost: float) -> float | None:
    """Linear between evaluations; None outside of them."""
    if not line.x[0] <= cost <= line.x[-1]:
        return None
    return float(np.interp(cost, line.x, line.y))
