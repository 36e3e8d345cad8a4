"""Whether one figure more is another than those before: against formulas and simulations."""

import random
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.statistics.trend import against_mean, prediction_interval

FIGURES = st.floats(-1e3, 1e3)


def test_an_interval_as_in_the_books():
    """Hahn and Meeker's first example: n = 5, mean 50.10, sd 1.31; the next one, at 95 %."""
    values = [51.4, 49.5, 48.7, 49.3, 51.6]
    found = prediction_interval([values], 0.95)
    half = 2.776 * (1 + 1 / 5) ** 0.5 * statistics.stdev(values)
    assert found.low == pytest.approx(50.1 - half, abs=0.01)
    assert found.high == pytest.approx(50.1 + half, abs=0.01)


@pytest.mark.parametrize("n", [2, 5, 30])
@pytest.mark.parametrize("confidence", [0.5, 0.95])
def test_it_holds_the_next_value_as_often_as_it_says(n, confidence):
    noise = np.random.default_rng(n).normal(3, 0.7, size=(3000, n + 1))
    held = [not prediction_interval([row[:-1]], confidence).excludes(row[-1]) for row in noise]
    assert statistics.fmean(held) == pytest.approx(confidence, abs=0.03)


@pytest.mark.parametrize("last", [1, 3])
def test_after_a_change_the_levels_before_it_tell_the_spread(last):
    noise = np.random.default_rng(last).normal(3, 0.7, size=(4000, 9 + last))
    held = [
        not prediction_interval([row[:6] + 5, row[6:8] - 2, row[8:-1]], 0.95).excludes(row[-1])
        for row in noise
    ]
    assert statistics.fmean(held) == pytest.approx(0.95, abs=0.015)


@given(st.lists(FIGURES, min_size=2, max_size=9), FIGURES, st.floats(0.1, 10))
def test_it_moves_and_stretches_with_its_values(values, shift, factor):
    one = prediction_interval([values], 0.9)
    other = prediction_interval([[shift + factor * value for value in values]], 0.9)
    assert other.low == pytest.approx(shift + factor * one.low, abs=1e-6)
    assert other.high == pytest.approx(shift + factor * one.high, abs=1e-6)


def test_equal_values_leave_no_width():
    found = prediction_interval([[5.0] * 7], 0.999)
    assert (found.low, found.high) == (5.0, 5.0)


def test_a_seed_is_compared_with_its_own_mean():
    references = [{1: 1.0, 2: 5.0}, {1: 3.0, 3: 9.0}]
    found = against_mean({1: 2.5, 2: 4.0, 4: 0.0}, references, confidence=0.95, least=2)
    assert found.by_seed == {1: 0.5, 2: -1.0}


def test_without_pairs_means_are_compared_and_seeds_are_numbers():
    references = [{1: 1.0, 2: 2.0}, {1: 3.0, 2: 6.0}]
    new = {7: 10.0, 8: 12.0}
    found = against_mean(new, references, confidence=0.95, least=2, pairs=False)
    assert found.mean == pytest.approx(8.0)
    assert found.n == 2
    assert not found.is_paired


@pytest.mark.parametrize("seeds", [5, 8])
def test_losses_without_a_change_are_outside_as_seldom_as_the_interval_says(seeds):
    noise, outside = random.Random(3), 0
    for _ in range(2000):
        draw = [{seed: noise.gauss(seed, 1) for seed in range(seeds)} for _ in range(5)]
        found = against_mean(draw[0], draw[1:], confidence=0.9, least=5)
        outside += found.interval.excludes(0)
    assert outside / 2000 == pytest.approx(0.1, abs=0.02)
