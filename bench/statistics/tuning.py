"""How much a tuning errs: what another one, with other points and seeds, would have chosen."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats.qmc import Halton

Array = NDArray[np.float64]

DRAWS = 1_000
SEED = 20_261_129  # the same figure every time
SPARE = 3  # trials beyond the parameters of the fit: noise is read from what is left


def error_of_tuning(at: Array, losses: Array, study: Array) -> float | None:
    """The standard deviation of a tuned loss over tunings, by simulation.

    at: (n, d), where each trial lies in its space, every range from 0 to 1; losses: (n,); study:
    (n,) whole numbers. A parabola in each coordinate, with a level for each study, is fitted to the
    better half of a study's trials; their scatter about it is the noise by which a choice errs.
    Then as many points as a study has are drawn again and again (scrambled Halton), the best is
    chosen by the fit with noise, and its loss is the fit's. None where the fit has no minimum, or
    too few trials.
    """
    studies, d = np.unique(study), at.shape[1]
    better = np.concatenate(
        [np.flatnonzero((study == s) & (losses <= np.median(losses[study == s]))) for s in studies]
    )
    levels = (study[better, None] == studies).astype(float)
    terms = np.hstack([levels, at[better], at[better] ** 2])
    if len(better) < terms.shape[1] + SPARE:
        return None
    found, *_ = np.linalg.lstsq(terms, losses[better], rcond=None)
    slopes, bends = found[len(studies) : -d], found[-d:]
    if not (bends > 0).all():
        return None
    left = losses[better] - terms @ found
    noise = math.sqrt(float(left @ left) / (len(better) - terms.shape[1]))
    return _spread(slopes, bends, noise, len(losses) // len(studies))


def _spread(slopes: Array, bends: Array, noise: float, trials: int) -> float:
    rng = np.random.default_rng(SEED)
    chosen = []
    for _ in range(DRAWS):
        points = Halton(len(slopes), scramble=True, seed=rng).random(trials)
        fitted = points @ slopes + points**2 @ bends
        chosen.append(fitted[np.argmin(fitted + noise * rng.normal(size=trials))])
    return float(np.std(chosen, ddof=1))
