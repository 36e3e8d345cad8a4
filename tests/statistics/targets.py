"""How often a claim on a fixed target is wrong, on simulated experiments with a fixed seed.

`python -m tests.statistics.targets` prints its table of docs/statistics.md.
"""

import numpy as np
from scipy.stats import norm, t

from bench.statistics.verdict import alpha_of_look
from tests.statistics.calibration import DRAWS, Figures, percent, random, table

ALPHA = alpha_of_look(1)


def by_t(figures: Figures) -> float:
    """The share of draws whose mean is shown to lie under 0."""
    n = figures.shape[-1]
    high = figures.mean(axis=-1) + t.isf(ALPHA, n - 1) * figures.std(axis=-1, ddof=1) / np.sqrt(n)
    return float((high <= 0).mean())


def by_z(figures: Figures) -> float:
    """By a known deviation of 1."""
    n = figures.shape[-1]
    return float((-figures.mean(axis=-1) * np.sqrt(n) >= norm.isf(ALPHA)).mean())


def rates(n: int) -> dict[str, tuple[float, float]]:
    """(by the runs' own deviation, by a known one)."""
    noise = random("targets", n).normal(size=(DRAWS, n))
    noisier = noise * 2
    skewed = random("skewed targets", n).lognormal(size=(DRAWS, n)) - np.exp(0.5)
    return {
        "a mean at the target: “shown”": (by_t(noise), by_z(noise)),
        "the same, runs twice as noisy as is known": (by_t(noisier), by_z(noisier)),
        "the same, skewed noise (published, not promised)": (by_t(skewed), by_z(skewed)),
        "two deviations under it: “shown” (right)": (by_t(noise - 2), by_z(noise - 2)),
    }


def tables() -> list[str]:
    found = {n: rates(n) for n in (5, 10)}
    headings = [f"{how}, n = {n}" for n in found for how in ("own deviation", "known")]
    rows = [(name, *(percent(rate) for n in found for rate in found[n][name])) for name in found[5]]
    return [table(("a fixed target, first look", *headings), rows)]


if __name__ == "__main__":
    print("\n\n".join(tables()))
