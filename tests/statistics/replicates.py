"""How often verdicts on runs without pairs are wrong, on simulated experiments with a fixed seed.

`python -m tests.statistics.replicates` prints its tables of docs/statistics.md. As in
calibration.py the verdicts are those of bench.statistics, written for whole arrays: figures and
ends are (draws, arms, runs), the first arm being the baseline. Runs of one number share nothing.
"""

import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, t

from bench.statistics.verdict import ALPHA, LEAST_SEEDS_LOSS, alpha_of_look
from tests.statistics.calibration import (
    ARMS,
    CUTS,
    DIVERGED,
    DIVERGING,
    DONE,
    DRAWS,
    FATES,
    MISSING,
    UNEQUAL,
    Ends,
    Figures,
    Flags,
    Verdicts,
    end_after,
    percent,
    random,
    table,
)

# --- what is decided


def by_welch(figures: Figures, alpha: float, margin: float = 0.0) -> Verdicts:
    """Verdicts on differences of means, each at `alpha`; less is better. NaN: there is no run."""
    runs = (~np.isnan(figures)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        parts = np.nanvar(figures, axis=-1, ddof=1) / runs
        variance = parts[:, 1:] + parts[:, :1]
        squares = parts**2 / (runs - 1)
        freedom = variance**2 / (squares[:, 1:] + squares[:, :1])
        half = t.isf(alpha / 2, freedom) * np.sqrt(variance)
        means = np.nanmean(figures, axis=-1)
    low, high = (means[:, 1:] - means[:, :1] + sign * half for sign in (-1, 1))
    better, worse = high < 0, low > 0
    within = (low >= -margin) & (high <= margin)
    return Verdicts(better, worse, within & ~better & ~worse)


def by_rank(figures: Figures, ends: Ends, alpha: float) -> Verdicts:
    """The same where not every run finished: `ends` are places in ENDS."""
    arms = [figures[:, 1:], np.broadcast_to(figures[:, :1], figures[:, 1:].shape)]
    how = [ends[:, 1:], np.broadcast_to(ends[:, :1], ends[:, 1:].shape)]
    neither = (how[0] == MISSING) & (how[1] == MISSING)
    last = [np.where(end == DONE, arm, np.inf) for arm, end in zip(arms, how, strict=True)]
    first = [
        np.where((end == DONE) | (end == DIVERGED), worst, -np.inf)
        for worst, end in zip(last, how, strict=True)
    ]
    critical = np.array([least_won(n, alpha) for n in range(figures.shape[-1] + 1)])
    needed = critical[(~neither).sum(axis=-1)]
    better, worse = (won(last[i], first[1 - i], neither) >= needed for i in (0, 1))
    failed = [((end != DONE) & (end != MISSING)).sum(axis=-1) for end in how]
    enough = np.minimum(*((end != MISSING).sum(axis=-1) for end in how)) >= LEAST_SEEDS_LOSS
    ranked = Verdicts(
        enough & better & (failed[0] <= failed[1]),
        enough & worse & (failed[1] <= failed[0]),
        np.zeros_like(enough),
    )
    whole = ((how[0] == DONE) & (how[1] == DONE) | neither).all(axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an arm without a run, or with one
        welch = by_welch(np.where(ends == DONE, figures, np.nan), alpha)
    return Verdicts(
        np.where(whole, enough & welch.better, ranked.better),
        np.where(whole, enough & welch.worse, ranked.worse),
        np.zeros_like(enough),
    )


def won(left: Figures, right: Figures, neither: Flags) -> NDArray[np.int64]:
    """In how many pairs of runs `left` has the lower figure; runs of `neither` are in none."""
    left, right = (np.where(neither, np.nan, side) for side in (left, right))
    return (left[..., :, None] < right[..., None, :]).sum(axis=(-1, -2))


@cache
def least_won(n: int, alpha: float) -> int:
    """The fewest pairs of runs to win, of n against n, for a p value of alpha / 2 at most.

    By the number of ways in which n of 2n ranks have a sum: counted, not looked up.
    """
    ways = np.zeros((n + 1, n * n + 1), dtype=object)  # (runs placed, pairs won so far)
    ways[0, 0] = 1
    for rank in range(2 * n):  # from the worst: a run there beats the others that are placed
        for placed in range(min(rank, n - 1), -1, -1):
            beaten = rank - placed
            if beaten <= n:
                ways[placed + 1, beaten:] += ways[placed, : n * n + 1 - beaten]
    counts = ways[n]
    tail = np.cumsum(counts[::-1])[::-1]
    rare = [pairs for pairs in range(n * n + 1) if tail[pairs] / tail[0] <= alpha / 2]
    return min(rare, default=n * n + 1)


# --- the figures, as shares


def equal_runs(n: int, own: Figures) -> Figures:
    """Arms of one mean and these standard deviations."""
    return random("replicates", n).normal(size=(DRAWS, ARMS, n)) * own[:, None]


def family_wise_rates(n: int) -> dict[str, float]:
    each, report = ALPHA / (ARMS - 1), alpha_of_look(1) / (ARMS - 1)
    equal, unequal = equal_runs(n, np.ones(ARMS)), equal_runs(n, UNEQUAL)
    ends = np.where(random("ends", n).random((DRAWS, ARMS, n)) < DIVERGING, DIVERGED, DONE)
    return {
        "equal arms, the family at 5 %: one look only": by_welch(equal, each).family_wise,
        "equal arms, the report's first look": by_welch(equal, report).family_wise,
        "equal means, unequal noise, the family at 5 %": by_welch(unequal, each).family_wise,
        "equal means, unequal noise, the report's first look": by_welch(
            unequal, report
        ).family_wise,
        "equal arms, 10 % of runs diverging, the family at 5 %": by_rank(
            equal, ends, each
        ).family_wise,
        "equal arms, 10 % of runs diverging, the report's first look": by_rank(
            equal, ends, report
        ).family_wise,
    }


def better_in_spite_of(fate: str, n: int, share: float, quiet: float) -> float:
    """How often an arm equal to the baseline is "better" whose bad runs end so; one comparison."""
    own = random("fates of runs", n).normal(size=(DRAWS, 2, n))
    bad = own[:, 1:] > norm.isf(share)
    ends = np.concatenate([np.full_like(bad, DONE, int), np.where(bad, end_after(fate), DONE)], 1)
    figures = own * np.array([quiet, 1.0])[:, None]
    return float(by_rank(figures, ends, alpha_of_look(1)).better.mean())


# --- the tables of docs/statistics.md


def tables() -> list[str]:
    small, large = family_wise_rates(5), family_wise_rates(10)
    return [
        table(
            ("runs without pairs: any of three arms better or worse", "n = 5", "n = 10"),
            [(name, percent(small[name]), percent(large[name])) for name in small],
        ),
        table(
            (
                "runs without pairs, the bad ones of one of equal arms: “better”",
                *(
                    f"n = {n}, {percent(share)[:-4]} %{' (quiet baseline)' * (quiet < 1)}"
                    for n, share, quiet in CUTS
                ),
            ),
            [(fate, *(percent(better_in_spite_of(fate, *cut)) for cut in CUTS)) for fate in FATES],
        ),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
