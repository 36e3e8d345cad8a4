"""How much a tuning errs, from its own trials."""

import numpy as np
import pytest

from bench.statistics.tuning import error_of_tuning


def trials(bends, studies=5, each=16, noise=0.005, seed=1):
    """Trials of random points on a parabola around 0.4 in each coordinate."""
    rng = np.random.default_rng(seed)
    at = rng.random((studies * each, len(bends)))
    study = np.repeat(np.arange(studies), each)
    level = rng.normal(size=studies)[study]  # a study's seeds are easier or harder
    losses = 2 + level + (at - 0.4) ** 2 @ np.array(bends) + noise * rng.normal(size=len(at))
    return at, losses, study


def true_error(bends, each=16, noise=0.005):
    rng = np.random.default_rng(2)
    at = rng.random((4_000, each, len(bends)))
    losses = (at - 0.4) ** 2 @ np.array(bends)
    best = (losses + noise * rng.normal(size=losses.shape)).argmin(1)
    return losses[np.arange(len(at)), best].std()


@pytest.mark.parametrize("bends", [(1.2,), (1.2, 0.6)])
def test_it_is_near_what_other_tunings_would_have_differed_by(bends):
    """Points that are drawn at random spread their best more than even ones do: up to twice."""
    found = error_of_tuning(*trials(bends))
    assert 0.3 * true_error(bends) < found < 1.3 * true_error(bends)


def test_steeper_losses_err_more_and_more_trials_less():
    shallow, steep = (error_of_tuning(*trials((bend, bend), each=12)) for bend in (0.3, 3.0))
    assert steep > 2 * shallow
    assert error_of_tuning(*trials((3.0, 3.0), each=40)) < steep / 2


def test_it_is_the_same_every_time():
    assert error_of_tuning(*trials((1.0,))) == error_of_tuning(*trials((1.0,)))


def test_it_is_not_known_of_too_few_trials_or_without_a_minimum():
    assert error_of_tuning(*trials((1.0, 1.0), studies=1, each=8)) is None
    assert error_of_tuning(*trials((-1.0,))) is None
