"""One deviation for all arms: against scipy's analysis of variance, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from bench.statistics.contrast import Contrast, difference
from bench.statistics.pooled import Pooled, pooled
from tests.builders.shared import ROOT
from tests.statistics import pooling

ARMS = [[2.0, 2.1, 2.3], [1.9, 2.2, 2.1], [2.4, 2.2, 2.5], [1.8, 2.0, 1.7]]


def contrast_of(new, base, pool, pairs=True, confidence=0.95) -> Contrast:
    found = difference(
        dict(enumerate(new)),
        dict(enumerate(base)),
        relative=False,
        confidence=confidence,
        pairs=pairs,
    )
    return Contrast(
        found.by_seed, found.relative, confidence, found.scale, found.least, found.others, pool
    )


def test_the_variance_is_the_mean_square_within_arms():
    """Of a one-way analysis of variance: F is the mean square between arms over it."""
    found, why = pooled(ARMS)
    within = sum(sum((x - np.mean(arm)) ** 2 for x in arm) for arm in ARMS)
    assert found == Pooled(pytest.approx(within / 8), 8)
    assert not why
    between = 3 * sum((np.mean(arm) - np.mean(ARMS)) ** 2 for arm in ARMS) / 3
    assert between / found.variance == pytest.approx(stats.f_oneway(*ARMS).statistic)


def test_of_two_arms_without_pairs_it_is_students_t_with_equal_variances():
    new, base = [1.0, 1.2, 1.1, 1.4], [1.5, 1.3, 1.6]
    pool, _ = pooled([new, base])
    wanted = stats.ttest_ind(new, base, equal_var=True).confidence_interval(0.95)
    found = contrast_of(new, base, pool, pairs=False).interval
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_of_pairs_the_half_width_is_that_of_two_means():
    pool, _ = pooled(ARMS)
    contrast = contrast_of(ARMS[1], ARMS[0], pool)
    half = stats.t.isf(0.025, 8) * math.sqrt(2 * pool.variance / 3)
    assert (contrast.interval.high - contrast.interval.low) / 2 == pytest.approx(half)
    assert contrast.mean == pytest.approx(np.mean(ARMS[1]) - np.mean(ARMS[0]))


def test_spreads_that_differ_clearly_are_not_pooled():
    wild = [[2.0, 2.001, 2.002, 2.003], [1.0, 3.0, 2.0, 5.0]]
    found, why = pooled(wild)
    assert found is None
    assert why.startswith("spreads differ clearly (Bartlett, p = ")
    p_value = stats.bartlett(*wild).pvalue
    assert f"p = {p_value:.2g})" in why


@pytest.mark.parametrize(
    ("arms", "words"),
    [
        ([[1.0], [2.0]], "no configuration has two seeds"),
        ([[1.0, 1.0, 1.0], [1.0, 2.0, 3.0]], "a configuration has no variance"),
    ],
)
def test_without_a_variance_nothing_is_pooled(arms, words):
    found, why = pooled(arms)
    assert found is None
    assert why.startswith(words)


def test_one_pair_has_no_interval():
    pool, _ = pooled(ARMS)
    assert contrast_of([1.0], [2.0], pool).interval is None


def test_equal_arms_are_told_apart_no_more_often_than_promised():
    for name, rate in pooling.wrong_rates(3).items():
        assert rate < 0.055 or "published" in name, name


def test_the_tables_of_the_docs_are_these():
    page = (ROOT / "docs" / "statistics.md").read_text()
    for table in pooling.tables():
        assert table in page
