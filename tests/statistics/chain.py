"""How often verdicts on tuned optimizers are wrong: space, trials, choice and verdict, simulated.

`python -m tests.statistics.chain` prints the tables of docs/statistics.md. Points are those that
bench.matrix.space plans, study by study; the rule of the choice is that of bench.matrix.choice, and
the verdict is the report's, for whole arrays: (draws, studies, trials). An optimizer's loss is a
parabola in each of its rates around an optimum that each experiment draws anew; a run's loss has
its seed's noise. Both arms try the same points, as they do in a matrix.
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from bench.matrix.space import REFINED, sequence
from bench.matrix.tune_forms import Linear
from bench.statistics.interval import half_width
from tests.statistics.calibration import percent, random, table

Array = NDArray[np.float64]

DRAWS = 4_000
# Nats that a rate costs at one range's length from its optimum: at half of a range of three decades
# AdamW's loss was some 0.3 to 0.4 above its best in results/tuned-cpu. A second rate costs less.
BENDS = (1.2, 0.6)
OWN = 0.006  # noise of one run's loss that arms do not share: the published runs' deviation
MARGIN = 0.01
JUDGED_ON = 2  # seeds a study


@dataclass(frozen=True)
class Budget:
    """What each arm may try in one study, on one seed."""

    rates: int  # dimensions of its space
    trials: int  # in the first stage, the untuned setting included
    refine: int = 0  # around the best of them
    studies: int = 5
    once: bool = False  # tuned once, and judged on as many seeds as there would be studies


def points(budget: Budget) -> Array:
    """(studies, trials - 1, rates), each range from 0 to 1."""
    space = {f"rate{k}": Linear(linear=[0.0, 1.0]) for k in range(budget.rates)}
    studies = 1 if budget.once else budget.studies
    found = [
        [[*point.values()] for point in itertools.islice(sequence(space, s + 1), most)]
        for s in range(studies)
        for most in [budget.trials - 1 + budget.refine]
    ]
    return np.array(found)


def tuned(budget: Budget, draw: np.random.Generator, default: Array) -> Array:
    """True losses of the chosen settings, above the optimum: (draws, studies).

    default: (draws, rates), how far the untuned setting is from the optimum.
    """
    at = points(budget)
    bends = np.array(BENDS[: budget.rates])
    best = draw.uniform(0.2, 0.8, size=(DRAWS, 1, 1, budget.rates))
    untuned = best + default[:, None, None, : budget.rates]
    first = np.broadcast_to(at[:, : budget.trials - 1], (DRAWS, *at[:, : budget.trials - 1].shape))
    first = np.concatenate([np.broadcast_to(untuned, (DRAWS, len(at), 1, budget.rates)), first], 2)

    def losses(tried: Array) -> tuple[Array, Array]:
        true = ((tried - best) ** 2 * bends).sum(-1)
        return true, true + OWN * draw.normal(size=true.shape)

    true, seen = losses(first)
    if budget.refine:
        middle = np.take_along_axis(first, seen.argmin(-1)[..., None, None], 2)
        begin = np.clip(middle - REFINED / 2, 0, 1 - REFINED)
        again = losses(begin + REFINED * at[:, -budget.refine :])
        true, seen = (np.concatenate(pair, -1) for pair in zip((true, seen), again, strict=True))
    return np.take_along_axis(true, seen.argmin(-1)[..., None], -1)[..., 0]


def difference(budgets: tuple[Budget, Budget], gain: float = 0.0) -> Array:
    """Of the second arm, which is better by `gain`, from the first: (draws, studies or seeds)."""
    draw = random(f"{budgets}", budgets[0].studies)
    # Alike for both: a default that is nearer to its optimum is a better optimizer to begin with.
    default = draw.uniform(-0.3, 0.3, size=(DRAWS, len(BENDS)))
    arms = [tuned(budget, draw, default) for budget in budgets]
    seeds = 1 if budgets[0].once else JUDGED_ON  # that one figure is the mean of
    noise = np.sqrt(2 / seeds) * OWN * draw.normal(size=(DRAWS, budgets[0].studies))
    return arms[1] - arms[0] - gain + noise


def verdicts(differences: Array, alpha: float = 0.05) -> tuple[float, float]:
    """(better, worse): how often."""
    n = differences.shape[1]
    mean, sd = differences.mean(1), differences.std(1, ddof=1)
    half = half_width(1.0, n, 1 - alpha) * sd
    return float((mean + half < 0).mean()), float((mean - half > 0).mean())


def pair(budget: Budget) -> tuple[Budget, Budget]:
    return budget, budget


def pair_of(one: Budget, other: Budget, studies: int, once: bool) -> tuple[Budget, Budget]:
    return (
        replace(one, studies=studies, once=once),
        replace(other, studies=studies, once=once),
    )


ONE, TWO = Budget(rates=1, trials=8), Budget(rates=2, trials=16)
EQUAL = {
    "one rate, 8 trials": ONE,
    "one rate, 6 trials and 2 around the best": replace(ONE, trials=6, refine=2),
    "two rates, 16 trials": TWO,
    "two rates, 12 trials and 4 around the best": replace(TWO, trials=12, refine=4),
    "two rates, 8 trials": replace(TWO, trials=8),
}
UNEQUAL = {
    "one rate against two, 8 trials each": (ONE, replace(TWO, trials=8)),
    "one rate against two, 8 trials a rate": (ONE, TWO),
}


def wrong_rates(studies: int, once: bool = False) -> dict[str, float]:
    """Equally good arms, better or worse at 5 %; once: with the choice left out of the interval."""
    asked = {name: pair(budget) for name, budget in EQUAL.items()} | UNEQUAL
    return {
        name: sum(verdicts(difference(pair_of(*both, studies, once))), start=0.0)
        for name, both in asked.items()
    }


def found_rates(studies: int) -> dict[str, float]:
    """How often an arm that is better by twice the margin is "better", at 5 %."""
    return {
        name: verdicts(difference(pair(replace(budget, studies=studies)), 2 * MARGIN))[0]
        for name, budget in EQUAL.items()
    }


def tables() -> list[str]:
    once, five, ten = wrong_rates(5, once=True), wrong_rates(5), wrong_rates(10)
    found = {n: found_rates(n) for n in (5, 10)}
    return [
        table(
            (
                "equally good optimizers, each tuned: better or worse, nominally 5 %",
                "tuned once, 5 seeds",
                "5 studies",
                "10 studies",
            ),
            [(name, *(percent(each[name]) for each in (once, five, ten))) for name in five],
        ),
        table(
            ("better by twice the margin: “better”", "5 studies", "10 studies"),
            [(name, *(percent(found[n][name]) for n in found)) for name in EQUAL],
        ),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
