"""How often verdicts on figures of curves are wrong, on simulated experiments with a fixed seed.

`python -m tests.statistics.curves` prints their table of docs/statistics.md. As in calibration.py
the verdicts are those of bench.statistics, written for whole arrays: curves are (draws, arms,
seeds, evaluations), the first arm being the baseline. A loss falls to a level that arm and seed
have, every evaluation scatters, and every run has a clock of its own.
"""

from collections.abc import Callable

import numpy as np

from bench.statistics.verdict import ALPHA, alpha_of_look
from tests.statistics.calibration import (
    ARMS,
    DONE,
    DRAWS,
    MARGIN,
    SHARED,
    Figures,
    Verdicts,
    by_interval,
    differences,
    percent,
    random,
    table,
    with_ends,
)

TIMES = np.arange(21) / 20  # evaluations, the first before the first step; steps over all steps
FALL, TAU = 100.0, 0.15  # of the loss, in an arm's own noise, and its time constant
SCATTER = 0.5  # of one evaluation
CLOCK = 0.1  # relative deviation of a run's speed
TAIL = 5
MISSED = 1  # place in ENDS of what ranks below every figure: a seed that diverged


def random_curves(what: str, n: int, gain: float = 0.0) -> tuple[Figures, Figures]:
    """(losses, times at each evaluation); the second arm ends lower by `gain`."""
    draw = random(what, n)
    level = SHARED * draw.normal(size=(DRAWS, 1, n)) + draw.normal(size=(DRAWS, ARMS, n))
    level[:, 1] -= gain
    losses = level[..., None] + FALL * np.exp(-TIMES / TAU)
    losses = losses + SCATTER * draw.normal(size=losses.shape)
    clock = np.exp(CLOCK * draw.normal(size=level.shape))
    return losses, clock[..., None] * TIMES


def final(losses: Figures, times: Figures) -> Figures:
    return losses[..., -1]


def tail(losses: Figures, times: Figures) -> Figures:
    return losses[..., -TAIL:].mean(axis=-1)


def at_equal_time(losses: Figures, times: Figures) -> Figures:
    """Where the first run of any arm ends; linear between evaluations."""
    budget = times[..., -1].min(axis=(1, 2))[:, None, None, None]
    after = (times < budget).sum(axis=-1, keepdims=True)  # the first evaluation at or after it
    (x0, x1), (y0, y1) = (
        [np.take_along_axis(values, after - one, -1) for one in (1, 0)]
        for values in (times, losses)
    )
    return (y0 + (budget - x0) / (x1 - x0) * (y1 - y0))[..., 0]


def time_to(losses: Figures, times: Figures, target: float) -> Figures:
    """Logarithms of times until the loss is held at two evaluations; NaN where it is not."""
    held = (losses[..., :-1] <= target) & (losses[..., 1:] <= target)
    first = np.take_along_axis(times, held.argmax(axis=-1)[..., None], -1)[..., 0]
    with np.errstate(divide="ignore"):
        return np.where(held.any(axis=-1), np.log(first), np.nan)


def by_target(figures: Figures, alpha: float) -> Verdicts:
    ends = np.where(np.isnan(figures), MISSED, DONE)
    return with_ends(np.nan_to_num(figures), ends, alpha)


def wrong_rates(n: int) -> dict[str, float]:
    """Of equal arms: any of three better or worse, with the family at 5 %."""
    each = ALPHA / (ARMS - 1)
    losses, times = random_curves("equal curves", n)
    at_cost = differences(at_equal_time(losses, times))
    target = FALL * float(np.exp(-TIMES[15] / TAU))  # most seeds reach it, some do not
    several = [
        by_interval(differences(figure(losses, times)), each / 3).different
        for figure in (final, tail, at_equal_time)
    ]
    return {
        "final loss": by_interval(differences(final(losses, times)), each).family_wise,
        "mean of the last 5 evaluations": by_interval(
            differences(tail(losses, times)), each
        ).family_wise,
        "loss at equal time, where the first run ends": by_interval(at_cost, each).family_wise,
        "time to a target that some seeds miss": by_target(
            time_to(losses, times, target), each
        ).family_wise,
        "any of the first three, claimed together": float(
            np.logical_or.reduce(several).any(axis=1).mean()
        ),
    }


FOUND: dict[str, Callable[[Figures, Figures], Figures]] = {
    "final loss": final,
    "mean of the last 5 evaluations": tail,
    "loss at equal time, where the first run ends": at_equal_time,
}


def found_rates(n: int) -> dict[str, float]:
    """How often an arm that is better by twice the margin is "better", at the first look.

    The margin is the own noise of an arm.
    """
    losses, times = random_curves("better curves", n, gain=2 * MARGIN)
    alpha = alpha_of_look(1) / (ARMS - 1)
    return {
        name: float(by_interval(differences(figure(losses, times)), alpha).better[:, 0].mean())
        for name, figure in FOUND.items()
    }


def tables() -> list[str]:
    wrong, found = {n: wrong_rates(n) for n in (5, 10)}, {n: found_rates(n) for n in (7, 10)}
    return [
        table(
            ("equal arms: any of three better or worse, the family at 5 %", "n = 5", "n = 10"),
            [(name, *(percent(wrong[n][name]) for n in wrong)) for name in wrong[5]],
        ),
        table(
            ("better by twice an arm's own noise: “better” at the first look", "n = 7", "n = 10"),
            [(name, *(percent(found[n][name]) for n in found)) for name in FOUND],
        ),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
