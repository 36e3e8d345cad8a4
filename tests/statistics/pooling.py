"""How often verdicts by one deviation of all arms are wrong, on simulated experiments.

`python -m tests.statistics.pooling` prints their table of docs/statistics.md; as in calibration.py
the verdicts are those of bench.statistics, written for whole arrays.
"""

import numpy as np
from scipy.stats import chi2, t

from bench.statistics.pooled import ALIKE
from bench.statistics.verdict import ALPHA, alpha_of_look
from tests.statistics.calibration import (
    ARMS,
    DRAWS,
    SHARED,
    UNEQUAL,
    Figures,
    Flags,
    Verdicts,
    by_interval,
    differences,
    percent,
    random,
    table,
)


def alike(figures: Figures) -> Flags:
    """Whether Bartlett's test lets the spreads pass, draw by draw."""
    n = figures.shape[-1]
    variances = figures.var(axis=-1, ddof=1)
    total = ARMS * (n - 1)
    pooled = variances.mean(axis=-1)
    statistic = total * np.log(pooled) - (n - 1) * np.log(variances).sum(axis=-1)
    correction = 1 + (ARMS / (n - 1) - 1 / total) / (3 * (ARMS - 1))
    passes: Flags = statistic / correction < chi2.isf(ALIKE, ARMS - 1)
    return passes


def by_pool(figures: Figures, alpha: float) -> Verdicts:
    """Verdicts on differences of means; none where spreads differ clearly."""
    n = figures.shape[-1]
    variance = figures.var(axis=-1, ddof=1).mean(axis=-1)
    half = t.isf(alpha / 2, ARMS * (n - 1)) * np.sqrt(2 * variance / n)
    means = differences(figures).mean(axis=-1)
    passes = alike(figures)[:, None]
    return Verdicts(
        (means + half[:, None] < 0) & passes,
        (means - half[:, None] > 0) & passes,
        np.zeros_like(means, dtype=bool),
    )


def arms(n: int, own: Figures, shared: float = 0.0, gain: float = 0.0) -> Figures:
    draw = random("pooled", n)
    figures = draw.normal(size=(DRAWS, ARMS, n)) * own[:, None]
    figures = figures + shared * draw.normal(size=(DRAWS, 1, n))
    figures[:, 1] -= gain
    return figures


def wrong_rates(n: int) -> dict[str, float]:
    each, one = ALPHA / (ARMS - 1), np.ones(ARMS)
    return {
        "equal arms": by_pool(arms(n, one), each).family_wise,
        "equal arms, seeds that share noise": by_pool(arms(n, one, SHARED), each).family_wise,
        "equal means, unequal noise (published, not promised)": by_pool(
            arms(n, UNEQUAL), each
        ).family_wise,
    }


def found_rates(n: int, gain: float) -> tuple[float, float]:
    """How often a better arm is found at the first look: pooled, and by its own pairs."""
    figures = arms(n, np.ones(ARMS), gain=gain)
    alpha = alpha_of_look(1) / (ARMS - 1)
    pairs = by_interval(differences(figures), alpha)
    return float(by_pool(figures, alpha).better[:, 0].mean()), float(pairs.better[:, 0].mean())


def tables() -> list[str]:
    sizes = (3, 5)
    wrong = {n: wrong_rates(n) for n in sizes}
    found = {(n, gain): found_rates(n, gain) for n in sizes for gain in (3.0, 4.0)}
    return [
        table(
            (
                "one deviation for four arms: any better or worse, the family at 5 %",
                "n = 3",
                "n = 5",
            ),
            [(name, *(percent(wrong[n][name]) for n in sizes)) for name in wrong[3]],
        ),
        table(
            ("better by so many standard deviations: “better” at the first look", "3", "4"),
            [
                (f"{how}, n = {n}", *(percent(found[n, gain][place]) for gain in (3.0, 4.0)))
                for place, how in enumerate(("one deviation for all", "by its own pairs"))
                for n in sizes
            ],
        ),
    ]


if __name__ == "__main__":
    print("\n\n".join(tables()))
