"""The error of a mean over a text."""

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from bench.statistics.blocks import LEAST_VALUES, block_length, error_of_mean


def resampled(values, resamples: int) -> float:
    """The standard deviation of means over blocks that are drawn at random, ends joined."""
    rng, n = np.random.default_rng(1), len(values)
    length = block_length(values)
    starts = rng.integers(0, n, size=(resamples, n // length))
    places = (starts[..., None] + np.arange(length)) % n
    drawn = float(values[places].mean(axis=(1, 2)).std())
    return drawn * math.sqrt((n // length) * length / n)  # the last block that would be cut is none


def autoregressions(rho: float, n: int, series: int):
    """Each value is rho times the one before, and noise: (series, n)."""
    noise = np.random.default_rng(2).normal(size=(series, n + 100))
    return lfilter([1.0], [1.0, -rho], noise, axis=1)[:, 100:]


def test_it_is_what_resampling_gives():
    values = np.convolve(np.random.default_rng(0).normal(size=229), np.ones(30), "valid") + 2
    assert 20 < block_length(values) < 60
    drawn = resampled(values, 20_000)
    corrected = drawn / math.sqrt(1 - block_length(values) / 200)
    assert error_of_mean(values) == pytest.approx(corrected, rel=0.02)


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
@pytest.mark.parametrize("n", [200, 1_700])
def test_of_neighbours_that_are_alike_it_is_near_the_true_error(rho, n):
    """Autoregressive series: what their mean is wrong by, over 1,000 of them."""
    series = autoregressions(rho, n, 1_000)
    true = series.mean(axis=1).std()
    told = math.sqrt(np.mean([error_of_mean(each) ** 2 for each in series]))
    assert 0.85 * true < told < 1.05 * true
    if rho:  # an error that takes neighbours for independent is far too small
        naive = series.std(axis=1, ddof=1).mean() / math.sqrt(n)
        assert naive < 0.8 * true


def test_it_does_not_change_with_what_is_added_to_all():
    values = np.random.default_rng(3).normal(size=100)
    assert error_of_mean(values + 5) == pytest.approx(error_of_mean(values))
    assert error_of_mean(np.full(100, 1.25)) == 0


def test_too_short_a_series_has_none():
    assert error_of_mean(np.arange(LEAST_VALUES - 1.0)) is None
    assert error_of_mean(np.arange(LEAST_VALUES * 1.0)) is not None


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.6])
def test_blocks_are_as_long_as_neighbours_are_alike(rho):
    """Of an autoregression (2 g^2 n / D)^(1/3) is (6 rho^2 n / (1 - rho^2)^2)^(1/3)."""
    n = 400
    found = np.median([block_length(each) for each in autoregressions(rho, n, 400)])
    assert found == pytest.approx(max(1, (6 * rho**2 * n / (1 - rho**2) ** 2) ** (1 / 3)), rel=0.25)
