"""Verdicts: what follows from an interval, from too few seeds, and from seeds that diverged."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bench.report.statistics.contrast import Contrast
from bench.report.statistics.verdict import (
    ALPHA,
    Diverged,
    Judgement,
    Verdict,
    alpha_of_look,
    judge,
)

# The same cases on every machine, however slow it is.
STEADY = settings(deadline=None, derandomize=True, database=None)

# --- looks


def test_looks_spend_alpha_and_no_more():
    assert alpha_of_look(1) == ALPHA / 2
    assert alpha_of_look(3) == ALPHA / 12
    total = math.fsum(alpha_of_look(look) for look in range(1, 10_001))
    assert ALPHA * 0.999 < total < ALPHA
    with pytest.raises(ValueError, match="the first is 1"):
        alpha_of_look(0)


# --- verdicts


def verdict(values, *, margin=None, lower=True, least=5, confidence=0.95, diverged=None):
    contrast = Contrast(dict(enumerate(values)), relative=False, confidence=confidence)
    return judge(
        contrast,
        margin=margin,
        lower_is_better=lower,
        least_seeds=least,
        diverged=diverged or Diverged(0, 0),
    )


LESS = [-1.0, -1.1, -0.9, -1.05, -0.95]  # mean -1, sd 0.079: -1 ± 0.098
AROUND = [0.1, -0.1, 0.05, -0.05, 0.01]


@pytest.mark.parametrize(
    ("values", "margin", "lower", "expected"),
    [
        (LESS, None, True, Verdict.BETTER),
        (LESS, None, False, Verdict.WORSE),
        ([-x for x in LESS], None, True, Verdict.WORSE),
        ([-x for x in LESS], None, False, Verdict.BETTER),
        (LESS, 0.5, True, Verdict.BETTER),
        (AROUND, 0.2, True, Verdict.EQUIVALENT),
        (AROUND, 0.05, True, Verdict.UNDECIDED),
        (AROUND, None, True, Verdict.UNDECIDED),
        ([x + 0.05 for x in AROUND], 0.11, True, Verdict.UNDECIDED),  # one bound within it only
        ([x - 0.05 for x in AROUND], 0.11, True, Verdict.UNDECIDED),
        ([0.0] * 5, 1.0, True, Verdict.IDENTICAL),
        ([0.5] * 5, 1.0, True, Verdict.NOT_AVAILABLE),
        (LESS[:4], 0.01, True, Verdict.TOO_FEW),
        ([], None, True, Verdict.TOO_FEW),
    ],
)
def test_verdict_follows_from_the_interval(values, margin, lower, expected):
    assert verdict(values, margin=margin, lower=lower).verdict is expected


def test_a_difference_below_the_margin_is_still_a_difference():
    assert verdict(LESS, margin=2.0) == Judgement(Verdict.BETTER, "by less than the margin")


def test_the_verdict_is_that_of_the_contrasts_own_confidence():
    values = [-1.0, -2.0, -0.2, -1.5, -0.4]  # p = 0.033
    assert verdict(values).verdict is Verdict.BETTER
    assert verdict(values, confidence=1 - 0.05 / 2).verdict is Verdict.UNDECIDED


def test_too_few_seeds_are_told():
    assert verdict(LESS[:1]).why == "1 pair of seeds; a verdict needs 5"
    assert verdict(LESS[:3], least=3).verdict is Verdict.BETTER


# --- verdicts where seeds diverged


@STEADY
@given(
    st.lists(st.floats(-1, 1), max_size=12),
    st.builds(Diverged, *[st.integers(0, 9)] * 5),
    st.booleans(),
    st.sampled_from([None, 0.5, 9.0]),
)
def test_whoever_diverged_more_often_is_never_better_nor_as_good(values, diverged, lower, margin):
    found = verdict(values, margin=margin, lower=lower, diverged=diverged).verdict
    alike = (Verdict.EQUIVALENT, Verdict.IDENTICAL)
    if diverged.new > diverged.base or diverged.new_alone > diverged.base_alone:
        assert found not in (Verdict.BETTER, *alike)
    if diverged.base > diverged.new or diverged.base_alone > diverged.new_alone:
        assert found not in (Verdict.WORSE, *alike)


@STEADY
@given(
    st.lists(st.floats(-1, 1).filter(bool), max_size=12),
    st.integers(0, 9),
    st.integers(0, 9),
    st.sampled_from([0.95, 0.975, 1 - 0.05 / 6]),
)
def test_unequal_divergence_is_decided_by_the_sign_test(values, new, base, confidence):
    if new == base:
        return
    found = verdict(values, confidence=confidence, diverged=Diverged(new, base)).verdict
    won = sum(value < 0 for value in values) + base
    lost = sum(value > 0 for value in values) + new
    p = min(1.0, 2 * binom.cdf(min(won, lost), won + lost, 0.5))  # two-sided; symmetric at 1/2
    if won + lost < 5:
        assert found is Verdict.TOO_FEW
    elif p > 1 - confidence or (won > lost) is (new > base):
        assert found is Verdict.UNDECIDED
    else:
        assert found is (Verdict.BETTER if won > lost else Verdict.WORSE)


def test_sign_test_by_hand():
    # 7 of 7 pairs lost: p = 2 / 128; 5 of 5: 2 / 32, which 0.05 does not reach.
    assert verdict([0.1] * 6, diverged=Diverged(1, 0)).verdict is Verdict.WORSE
    assert verdict([0.1] * 6, lower=False, diverged=Diverged(0, 1)).verdict is Verdict.BETTER
    assert verdict([0.1] * 4, diverged=Diverged(1, 0)).verdict is Verdict.UNDECIDED
    tied = [0.0] * 9 + [0.1] * 3  # ties are no pairs, whichever is better
    assert verdict(tied, diverged=Diverged(1, 0)).verdict is Verdict.TOO_FEW
    assert verdict(tied, lower=False, diverged=Diverged(1, 0)).verdict is Verdict.TOO_FEW
    told = verdict([0.1] * 6, diverged=Diverged(2, 0))
    assert told.why == "2 of this arm's seeds diverged alone; by the sign of 8 pairs"


def test_equal_divergence_leaves_the_interval_to_decide():
    assert verdict(LESS, diverged=Diverged(1, 1, both=2)).verdict is Verdict.BETTER
    assert verdict(LESS[:4], diverged=Diverged(1, 1)).verdict is Verdict.TOO_FEW


def test_divergence_where_the_other_arm_is_not_known_counts_against_its_own():
    found = verdict(LESS, diverged=Diverged(0, 0, new_unpaired=1))
    assert found.verdict is Verdict.UNDECIDED
    assert found.why == "diverged: 1 of this arm's seeds, 0 of the baseline's"
    assert verdict(LESS, diverged=Diverged(0, 0, base_unpaired=1)).verdict is Verdict.BETTER


def test_diverged_is_true_where_any_seed_is():
    assert not Diverged(0, 0)
    assert Diverged(0, 0, both=1)
    assert Diverged(0, 0, base_unpaired=1)
