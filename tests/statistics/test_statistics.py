"""The report's statistics against scipy on random figures, or against cases worked by hand."""

import math
import statistics

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.stats import chi2, norm, pearsonr, t, ttest_1samp, ttest_rel

from bench.statistics.contrast import combined, correlation, difference
from bench.statistics.interval import Interval, is_constant, share_interval, t_interval
from bench.statistics.ladder import make_ladder
from bench.statistics.power import MOST_SEEDS, POWER, SeedsNeeded, power, seeds_for, seeds_to_decide
from bench.statistics.spread import over_seeds
from bench.statistics.target import ToTarget, first_held

# The same cases on every machine, however slow it is.
STEADY = settings(deadline=None, derandomize=True, database=None)
losses = st.floats(0.5, 5.0)
SHOWS = 1e-6  # a smaller standard deviation is mostly rounding, of which scipy warns
CONFIDENCES = (0.9, 0.95, 1 - 0.05 / 6)


def by_seed(values) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values, start=1)}


@st.composite
def two_arms(draw, least=2):
    """Figures of two arms over the same seeds."""
    pairs = draw(st.lists(st.tuples(losses, losses), min_size=least, max_size=12))
    return by_seed(pair[0] for pair in pairs), by_seed(pair[1] for pair in pairs)


# --- spread over seeds


def test_repeats_of_a_seed_are_averaged_first_and_n_counts_seeds():
    spread = over_seeds({1: [1.0, 2.0, 3.0], 2: [4.0], 3: [None], 4: [None, 6.0]})
    assert spread.by_seed == {1: 2.0, 2: 4.0, 4: 6.0}
    assert (spread.n, spread.mean, spread.sd) == (3, 4.0, 2.0)


def test_spread_of_one_seed_has_no_sd_and_of_none_no_mean():
    assert over_seeds({1: [2.0, 3.0]}).sd is None
    assert (over_seeds({1: [None]}).n, over_seeds({}).mean) == (0, None)


# --- the t interval


@STEADY
@given(st.lists(losses, min_size=2, max_size=12), st.sampled_from(CONFIDENCES))
@example([1.0, 2.0], 0.95)
def test_t_interval_is_that_of_scipy(values, confidence):
    found = t_interval(values, confidence)
    if max(values) - min(values) < SHOWS:
        return
    expected = ttest_1samp(values, 0).confidence_interval(confidence)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_t_interval_by_hand():
    # Mean 2, sd 1, n 3, t(0.975; 2) = 4.303 of any table.
    found = t_interval([1.0, 2.0, 3.0], 0.95)
    assert found.low == pytest.approx(2 - 4.303 / math.sqrt(3), abs=1e-3)
    assert found.high == pytest.approx(2 + 4.303 / math.sqrt(3), abs=1e-3)


@pytest.mark.parametrize("values", [[], [2.0], [2.0, 2.0, 2.0], [0.0, 0.0]])
def test_no_interval_without_variance(values):
    assert t_interval(values, 0.95) is None


def test_what_rounding_leaves_is_no_variance():
    base = by_seed([0.7, 1.1, 2.1, 4.3, 1.7])
    shifted = {seed: figure + 1e-5 for seed, figure in base.items()}
    contrast = difference(shifted, base, relative=False, confidence=0.95)
    assert statistics.stdev(contrast.values) > 0  # of doubles
    assert contrast.is_constant
    assert contrast.interval is None
    scaled = {seed: figure * 1.0001 for seed, figure in base.items()}
    assert difference(scaled, base, relative=True, confidence=0.95).is_constant
    assert not difference(scaled, base, relative=False, confidence=0.95).is_constant
    assert is_constant([1e-30, 1e-30])


def test_interval_bounds_belong_to_it():
    interval = Interval(-1.0, 2.0)
    assert not interval.excludes(-1.0)
    assert not interval.excludes(2.0)
    assert interval.excludes(2.1)
    assert interval.excludes(-1.1)
    assert interval.within(-1.0, 2.0)
    assert not interval.within(-0.9, 2.0)
    assert not interval.within(-1.0, 1.9)


# --- contrasts, paired by seed


@STEADY
@given(two_arms(), st.sampled_from(CONFIDENCES))
def test_contrast_is_the_paired_t_test_of_scipy(arms, confidence):
    new, base = arms
    contrast = difference(new, base, relative=False, confidence=confidence)
    assert contrast.n == len(new)
    assert contrast.mean == pytest.approx(
        np.mean(list(new.values())) - np.mean(list(base.values())), abs=1e-12
    )
    if contrast.sd < SHOWS:
        return
    expected = ttest_rel(list(new.values()), list(base.values()))
    low, high = expected.confidence_interval(confidence)
    assert contrast.interval.low == pytest.approx(low, abs=1e-9)
    assert contrast.interval.high == pytest.approx(high, abs=1e-9)
    # The interval excludes 0 exactly where the test rejects.
    if abs(expected.pvalue - (1 - confidence)) > 1e-9:
        assert contrast.interval.excludes(0) is bool(expected.pvalue < 1 - confidence)


@STEADY
@given(two_arms())
def test_relative_contrast_is_the_paired_t_test_of_logarithms(arms):
    new, base = arms
    contrast = difference(new, base, relative=True, confidence=0.95)
    left, right = np.log(list(new.values())), np.log(list(base.values()))
    assert contrast.values == pytest.approx(list(left - right), abs=1e-12)
    if contrast.sd > SHOWS:
        expected = ttest_rel(left, right).confidence_interval(0.95)
        assert contrast.interval.low == pytest.approx(expected.low, abs=1e-9)
    ratio = math.exp(statistics.fmean(math.log(new[seed] / base[seed]) for seed in new))
    assert 1 + contrast.in_unit(contrast.mean) == pytest.approx(ratio)


def test_pairs_are_the_seeds_of_both_arms_in_order():
    contrast = difference({3: 5.0, 1: 1.0, 9: 7.0}, {1: 3.0, 3: 4.0, 4: 1.0}, relative=False,
                      confidence=0.95)  # fmt: skip
    assert dict(contrast.by_seed) == {1: -2.0, 3: 1.0}
    assert list(contrast.by_seed) == [1, 3]
    assert contrast.in_unit(0.5) == 0.5


def test_pairing_takes_out_what_the_seeds_share():
    base = by_seed([1.0, 2.0, 3.0, 4.0, 5.0])
    new = by_seed([1.11, 2.09, 3.1, 4.12, 5.08])
    contrast = difference(new, base, relative=False, confidence=0.95)
    assert contrast.interval.low == pytest.approx(0.1 - 2.7764 * 0.0158114 / math.sqrt(5), abs=1e-5)
    assert contrast.interval.excludes(0)  # arms apart by their seeds' sd of 1.6 would not be


def test_contrast_without_a_pair():
    contrast = difference({1: 1.0}, {2: 1.0}, relative=True, confidence=0.95)
    assert (contrast.n, contrast.mean, contrast.sd, contrast.interval) == (0, None, None, None)
    assert not contrast.is_zero
    assert not contrast.is_constant
    assert difference({1: 1.0}, {1: 2.0}, relative=False, confidence=0.95).sd is None


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("relative", [True, False])
def test_what_is_not_finite_is_refused(figure, relative):
    with pytest.raises(ValueError, match="has no"):
        difference({1: figure}, {1: 1.0}, relative=relative, confidence=0.95)


@pytest.mark.parametrize("figure", [0.0, -1.0])
def test_a_figure_without_a_logarithm_is_refused(figure):
    with pytest.raises(ValueError, match="has no logarithm"):
        difference({1: 1.0}, {1: figure}, relative=True, confidence=0.95)


@STEADY
@given(two_arms(least=3))
def test_correlation_is_that_of_scipy(arms):
    new, base = arms
    found = correlation(new, base)
    if min(np.ptp(list(new.values())), np.ptp(list(base.values()))) < 1e-3:
        return  # where one side hardly varies, both are rounding
    assert found == pytest.approx(pearsonr(list(new.values()), list(base.values())).statistic)


def test_correlation_that_means_nothing_is_none():
    assert correlation({1: 1.0, 2: 2.0}, {1: 2.0, 2: 4.0}) is None
    assert correlation(by_seed([1, 2, 3]), by_seed([2, 2, 2])) is None
    assert correlation(by_seed([2, 2, 2]), by_seed([1, 2, 3])) is None
    assert correlation(by_seed([1, 2, 3]), by_seed([3, 2, 1])) == pytest.approx(-1)


# --- the ladder

BASE, TOP = ("gpt", "adamw"), ("kimi", "muon")
CORNERS = [BASE, ("gpt", "muon"), ("kimi", "adamw"), TOP]


@STEADY
@given(st.lists(st.tuples(losses, losses, losses, losses), min_size=2, max_size=8), st.booleans())
def test_rungs_are_t_tests_of_their_own_and_sum_to_the_whole(rows, relative):
    arms = {corner: by_seed(row[i] for row in rows) for i, corner in enumerate(CORNERS)}
    ladder = make_ladder(arms, BASE, TOP, relative=relative, confidence=0.95)
    ga, gt, ka, kt = np.log(np.array(rows).T) if relative else np.array(rows).T
    expected = {
        "by_optimizer": gt - ga,
        "by_model": ka - ga,
        "interaction": (kt - ka) - (gt - ga),
        "whole": kt - ga,
    }
    for name, values in expected.items():
        rung = getattr(ladder, name)
        assert rung.values == pytest.approx(list(values), abs=1e-12)
        assert rung.relative is relative
        if rung.sd > SHOWS:
            low, high = ttest_1samp(values, 0).confidence_interval(0.95)
            assert (rung.interval.low, rung.interval.high) == pytest.approx((low, high), abs=1e-9)
    rungs = (ladder.by_optimizer, ladder.by_model, ladder.interaction)
    for seed, whole in ladder.whole.by_seed.items():
        assert sum(rung.by_seed[seed] for rung in rungs) == pytest.approx(whole, abs=1e-12)
    assert sum(rung.mean for rung in rungs) == pytest.approx(ladder.whole.mean, abs=1e-12)


def test_ladder_by_hand():
    figures = dict(zip(CORNERS, ({1: 2.0}, {1: 1.9}, {1: 1.7}, {1: 1.65}), strict=True))
    ladder = make_ladder(figures, BASE, TOP, relative=False, confidence=0.95)
    means = (ladder.by_optimizer.mean, ladder.by_model.mean, ladder.interaction.mean)
    assert means == pytest.approx((-0.1, -0.3, 0.05))
    assert ladder.whole.mean == pytest.approx(-0.35)
    assert (ladder.model, ladder.optimizer) == ("kimi", "muon")
    assert (ladder.base_model, ladder.base_optimizer) == ("gpt", "adamw")


def test_every_rung_stands_on_the_seeds_of_all_four_arms():
    arms = {corner: by_seed([1.0, 2.0, 3.0]) for corner in CORNERS}
    arms["gpt", "muon"] = {2: 1.0, 3: 1.0}
    arms["kimi", "adamw"] = {1: 1.0, 3: 1.0, 7: 1.0}
    ladder = make_ladder(arms, BASE, TOP, relative=False, confidence=0.95)
    rungs = (ladder.by_optimizer, ladder.by_model, ladder.interaction, ladder.whole)
    assert [set(rung.by_seed) for rung in rungs] == [{3}] * 4


def test_no_ladder_without_its_four_arms_nor_of_a_time_of_0():
    arms = {corner: {1: 1.0} for corner in CORNERS}
    for corner in CORNERS:
        fewer = {name: figures for name, figures in arms.items() if name != corner}
        assert make_ladder(fewer, BASE, TOP, relative=False, confidence=0.95) is None
    with pytest.raises(ValueError, match="has no logarithm"):
        make_ladder(arms | {TOP: {1: 0.0}}, BASE, TOP, relative=True, confidence=0.95)


def test_combined_needs_a_seed_in_every_term():
    found = combined((1, {1: 5.0, 2: 1.0}), (0, {2: 9.0}), relative=False, confidence=0.9)
    assert (dict(found.by_seed), found.confidence) == ({2: 1.0}, 0.9)


# --- power, and the seeds that would decide


def test_power_of_a_textbook_case():
    # Cohen 1988, paired, d = 0.5, α = 0.05 two-sided, power 0.8: 34 pairs.
    assert seeds_for(1.0, 0.5, 0.05, least=2) == 34
    assert power(34, 1.0, 0.5, 0.05) == pytest.approx(0.8078, abs=5e-4)


@pytest.mark.parametrize(
    ("n", "effect", "alpha"), [(3, 2.0, 0.025), (5, 1.5, 0.05 / 6), (12, 0.8, 0.05)]
)
def test_power_is_the_chance_that_the_t_statistic_exceeds_its_critical_value(n, effect, alpha):
    # Without the noncentral t: over the distribution of s / σ, the chance that the mean exceeds it.
    critical = t.ppf(1 - alpha / 2, n - 1)

    def integrand(v):
        return chi2.pdf(v, n - 1) * norm.sf(
            critical * math.sqrt(v / (n - 1)) - effect * math.sqrt(n)
        )

    expected, _ = integrate.quad(integrand, 0, np.inf)
    assert power(n, 0.02, 0.02 * effect, alpha) == pytest.approx(expected, abs=1e-6)
    assert power(n, 0.02, -0.02 * effect, alpha) == power(n, 0.02, 0.02 * effect, alpha)


def test_power_is_that_of_simulated_tests():
    n, effect, alpha, draws = 6, 1.4, 0.025, 20_000
    values = np.random.default_rng(1).normal(effect, 1.0, (draws, n))
    tests = ttest_1samp(values, 0, axis=1)
    right = np.mean((tests.pvalue < alpha) & (tests.statistic > 0))
    assert power(n, 1.0, effect, alpha) == pytest.approx(right, abs=0.01)


@pytest.mark.parametrize("sd", [1e-300, 1e-12, 1e-7, 1e-4])
def test_a_hardly_known_variance_needs_no_more_seeds_than_a_verdict_does(sd):
    assert power(2, sd, 1.0, 0.05 / 6) == pytest.approx(1.0)
    assert seeds_for(sd, 1.0, 0.05 / 6, least=5) == 5


@STEADY
@given(st.floats(0.05, 40), st.sampled_from([0.05, 0.025 / 3, 0.05 / 12]), st.integers(2, 12))
def test_seeds_for_is_the_fewest_that_reach_the_power(sd, alpha, least):
    found = seeds_for(sd, 1.0, alpha, least)
    if found is None:
        assert power(MOST_SEEDS, sd, 1.0, alpha) < POWER
        return
    assert power(found, sd, 1.0, alpha) >= POWER
    assert found == least or power(found - 1, sd, 1.0, alpha) < POWER
    more_noise = seeds_for(sd * 1.3, 1.0, alpha, least)
    assert more_noise is None or more_noise >= found
    smaller_alpha = seeds_for(sd, 1.0, alpha / 2, least)
    assert smaller_alpha is None or smaller_alpha >= found


def test_the_range_of_seeds_is_that_of_the_standard_deviation():
    # χ²(0.025; 4) = 0.4844 and χ²(0.975; 4) = 11.143, of any table: 5 seeds know a standard
    # deviation by a factor of 0.599 to 2.874.
    found = seeds_to_decide(1.0, 5, 1.0, 0.025, least=6)
    assert found == SeedsNeeded(
        seeds_for(math.sqrt(4 / 11.143), 1.0, 0.025, 6),
        seeds_for(math.sqrt(4 / 0.4844), 1.0, 0.025, 6),
    )
    assert found.low < seeds_for(1.0, 1.0, 0.025, 6) < found.high
    assert seeds_to_decide(1.0, 5, 0.01, 0.025, least=6) == SeedsNeeded(None, None)


def test_the_range_holds_the_true_number_as_often_as_it_says():
    draws = np.random.default_rng(2).normal(0.0, 1.0, (200, 5)).std(axis=1, ddof=1)
    truth = seeds_for(1.0, 1.0, 0.05, 2)
    ranges = [seeds_to_decide(float(sd), 5, 1.0, 0.05, 2) for sd in draws]
    assert np.mean([each.low <= truth <= each.high for each in ranges]) == pytest.approx(
        0.95, abs=0.04
    )


# --- time to a target


def test_a_target_is_reached_where_it_is_held_twice_in_a_row():
    assert first_held([3.0, 2.0, 3.0, 2.0, 1.9, 1.8], 2.0) == 3
    assert first_held([2.0, 1.0], 2.0) == 0
    assert first_held([3.0, 2.0], 2.0) is None  # one dip, at the end
    assert first_held([2.0, math.nan, 2.0, 2.1, 2.0], 2.0) is None
    assert first_held([], 2.0) is None


@STEADY
@given(st.lists(losses, max_size=12), losses)
def test_first_held_is_the_first_pair_at_or_below_the_target(curve, target):
    pairs = [i for i in range(len(curve) - 1) if max(curve[i : i + 2]) <= target]
    assert first_held(curve, target) == (pairs[0] if pairs else None)


@pytest.mark.parametrize(
    ("costs", "median", "reached"),
    [
        ([5.0, 1.0, 3.0], 3.0, 3),
        ([5.0, None, 3.0], 5.0, 2),  # a miss is longer than any
        ([5.0, None, None], None, 1),
        ([5.0, 3.0, None, None], None, 2),  # the middle lies between a cost and a miss
        ([5.0, 3.0, 4.0, None], 4.5, 3),
        ([], None, 0),
    ],
)
def test_the_median_counts_misses(costs, median, reached):
    found = ToTarget(dict(enumerate(costs)))
    assert (found.median, found.n_reached) == (median, reached)


# --- Shares --------------------------------------------------------------------------------------


def at_least(hits: int, n: int, share: float) -> float:
    """The probability of so many hits or more."""
    return math.fsum(
        math.comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(hits, n + 1)
    )


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_exact_interval_ends_where_what_was_seen_has_half_of_5_percent(
    counts: tuple[int, int],
) -> None:
    """Clopper and Pearson's definition, by the binomial sum."""
    hits, n = counts
    found = share_interval(hits, n)
    low = at_least(hits, n, found.low) if hits else 0.025
    high = 1 - at_least(hits + 1, n, found.high) if hits < n else 0.025
    assert (low, high) == (pytest.approx(0.025, rel=1e-6), pytest.approx(0.025, rel=1e-6))
    assert (found.low == 0, found.high == 1) == (hits == 0, hits == n)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.3085), (5, 10, 0.1871, 0.8129), (0, 40, 0.0, 0.0881), (2, 40, 0.0061, 0.1692)],
)
def test_an_exact_interval_is_the_published_one(hits: int, n: int, low: float, high: float) -> None:
    found = share_interval(hits, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))
