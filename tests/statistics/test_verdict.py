"""Verdicts: what follows from an interval, from too few seeds, and from seeds that failed."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from bench.statistics.contrast import Contrast
from bench.statistics.ends import End, Ends
from bench.statistics.verdict import ALPHA, Judgement, Verdict, alpha_of_look, judge, most_bad_runs

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


def verdict(values, *, margin=None, lower=True, least=5, confidence=0.95, ends=None):
    contrast = Contrast(dict(enumerate(values)), relative=False, confidence=confidence)
    return judge(
        contrast,
        Ends({PAIR: len(values)} if ends is None else ends),
        margin=margin,
        lower_is_better=lower,
        least_seeds=least,
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


# --- verdicts where seeds did not finish

DONE, DIVERGED, FAILED, MISSING = End.FINISHED, End.DIVERGED, End.FAILED, End.MISSING
PAIR = (DONE, DONE)
ends_of = st.dictionaries(st.tuples(st.sampled_from(End), st.sampled_from(End)), st.integers(0, 9))


@STEADY
@given(
    st.lists(st.floats(-1, 1), max_size=12),
    ends_of,
    st.booleans(),
    st.sampled_from([None, 0.5, 9.0]),
)
def test_whoever_failed_more_often_is_never_better_nor_as_good(values, rest, lower, margin):
    ends = {**rest, PAIR: len(values)}
    found = verdict(values, margin=margin, lower=lower, ends=ends).verdict
    new = sum(n for (end, _), n in ends.items() if end in (DIVERGED, FAILED))
    base = sum(n for (_, end), n in ends.items() if end in (DIVERGED, FAILED))
    alike = (Verdict.EQUIVALENT, Verdict.IDENTICAL)
    if new > base:
        assert found not in (Verdict.BETTER, *alike)
    if base > new:
        assert found not in (Verdict.WORSE, *alike)
    if any(n for pair, n in ends.items() if pair not in (PAIR, (MISSING, MISSING))):
        assert found not in alike


@STEADY
@given(st.lists(st.floats(-1, 1), max_size=12), ends_of, st.booleans())
def test_the_verdict_on_swapped_arms_is_the_mirror_image(values, rest, lower):
    mirror = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    swapped = {(base, new): n for (new, base), n in rest.items()}
    one = verdict(values, lower=lower, ends={**rest, PAIR: len(values)}).verdict
    other = verdict([-x for x in values], lower=lower, ends={**swapped, PAIR: len(values)}).verdict
    assert other is mirror.get(one, one)


@STEADY
@given(
    st.lists(st.floats(-1, 1).filter(bool), max_size=12),
    ends_of,
    st.sampled_from([0.95, 0.975, 1 - 0.05 / 6]),
)
def test_seeds_that_did_not_finish_are_decided_by_the_sign_test(values, rest, confidence):
    """The rule, written down a second time, seed by seed."""
    ends = {**rest, PAIR: len(values)}
    if set(ends) <= {PAIR, (MISSING, MISSING)} or not any(
        n for pair, n in rest.items() if pair not in (PAIR, (MISSING, MISSING))
    ):
        return
    found = verdict(values, confidence=confidence, ends=ends).verdict
    won, lost = sum(value < 0 for value in values), sum(value > 0 for value in values)
    for_better, for_worse = [won, lost], [won, lost]
    for (new, base), n in rest.items():
        if (new, base) in (PAIR, (MISSING, MISSING)):
            continue
        # For better: this arm failed or lacks it: lost; the baseline diverged: won; both: neither.
        if new is not DONE and base is not DIVERGED:
            for_better[1] += n
        if new is DONE and base is DIVERGED:
            for_better[0] += n
        # For worse, the same of the baseline.
        if base is not DONE and new is not DIVERGED:
            for_worse[0] += n
        if base is DONE and new is DIVERGED:
            for_worse[1] += n
    failed = [sum(n for pair, n in ends.items() if pair[i] in (DIVERGED, FAILED)) for i in (0, 1)]

    def significant(hits, pairs):
        return pairs >= 5 and binom.sf(hits - 1, pairs, 0.5) <= (1 - confidence) / 2

    better = significant(for_better[0], sum(for_better)) and failed[0] <= failed[1]
    worse = significant(for_worse[1], sum(for_worse)) and failed[1] <= failed[0]
    assert (found is Verdict.BETTER) == better
    assert (found is Verdict.WORSE) == worse
    ended = sum(n for pair, n in ends.items() if not {MISSING, End.OTHERWISE} & set(pair))
    assert (found is Verdict.TOO_FEW) == (ended < 5)


@STEADY
@given(
    st.lists(st.floats(-1, 1), max_size=12),
    ends_of,
    st.sampled_from([DIVERGED, FAILED]),
    st.data(),
)
def test_one_more_failure_makes_no_verdict_kinder(values, rest, how, data):
    """A seed that finished, or was missing, fails instead."""
    ends = {**rest, PAIR: len(values)}
    before = [pair for pair, n in ends.items() if n and pair[0] in (DONE, MISSING)]
    if not before:
        return
    was = data.draw(st.sampled_from(before))
    after = {**ends, was: ends[was] - 1}
    after[how, was[1]] = after.get((how, was[1]), 0) + 1
    left = values
    if was == PAIR:
        gone = data.draw(st.integers(0, len(values) - 1))
        left = values[:gone] + values[gone + 1 :]
    then = verdict(values, margin=0.5, ends=ends).verdict
    now = verdict(left, margin=0.5, ends=after).verdict
    if now in (Verdict.BETTER, Verdict.EQUIVALENT, Verdict.IDENTICAL):
        assert now is then


def test_sign_test_by_hand():
    # 7 of 7 seeds lost: p = 1 / 128 of one side; 6 of 6: 1 / 64, and 0.025 is the level of a side.
    assert verdict([0.1] * 6, ends={PAIR: 6, (DIVERGED, DONE): 1}).verdict is Verdict.WORSE
    won = verdict([0.1] * 6, lower=False, ends={PAIR: 6, (DONE, DIVERGED): 1})
    assert won == Judgement(Verdict.BETTER, "7 of 7 seeds")
    assert verdict([0.1] * 4, ends={PAIR: 4, (DIVERGED, DONE): 1}).verdict is Verdict.UNDECIDED
    tied = [0.0] * 9 + [0.1] * 3  # ties are no pairs, whichever is better
    assert verdict(tied, ends={PAIR: 12, (DIVERGED, DONE): 1}).verdict is Verdict.UNDECIDED
    few = verdict([0.1] * 3, ends={PAIR: 3, (DIVERGED, DONE): 1, (MISSING, DONE): 9})
    assert few == Judgement(Verdict.TOO_FEW, "4 pairs of seeds; a verdict needs 5")


@pytest.mark.parametrize("new", [FAILED, MISSING])
def test_a_crash_of_one_arm_is_no_proof_against_it_and_a_seed_lost_for_it(new):
    ends = {PAIR: 9, (new, DONE): 1}
    assert verdict([-0.1] * 9, ends=ends).verdict is (
        Verdict.UNDECIDED if new is FAILED else Verdict.BETTER  # 9 of 10
    )
    assert verdict([0.1] * 5, ends={PAIR: 5, (new, DONE): 9}).verdict is Verdict.UNDECIDED


@pytest.mark.parametrize("how", [DIVERGED, FAILED])
def test_twenty_seeds_won_do_not_outweigh_one_failure(how):
    ends = {PAIR: 20, (how, DONE): 1}
    found = verdict([-0.1] * 20, ends=ends)
    assert found.verdict is Verdict.UNDECIDED
    assert found.why == "the configuration with the better seeds failed more often"
    assert verdict([-0.1] * 20, ends={**ends, (DONE, FAILED): 1}).verdict is Verdict.BETTER
    mirrored = {PAIR: 20, (DONE, how): 1}
    assert verdict([0.1] * 20, ends=mirrored).verdict is Verdict.UNDECIDED


def test_equal_numbers_of_failures_do_not_cancel():
    """9 seeds are better in both halves; the one lost and the one won leave 10 of 11."""
    ends = {PAIR: 9, (DIVERGED, DONE): 1, (DONE, DIVERGED): 1}
    found = verdict([-0.1] * 9, ends=ends)
    assert found == Judgement(Verdict.BETTER, "10 of 11 seeds")
    assert verdict(LESS, ends={PAIR: 5, (DIVERGED, DONE): 1, (DONE, DIVERGED): 1}).verdict is (
        Verdict.UNDECIDED  # 6 of 7: p = 0.06
    )


def test_seeds_that_neither_arm_started_are_left_out():
    ends = Ends({PAIR: 5, (MISSING, MISSING): 15})
    assert (ends.left_out, ends.rest, ends.all_finished) == (15, 5, True)
    assert verdict(LESS, ends=ends.count).verdict is Verdict.BETTER


def test_finished_seeds_still_allow_so_many_bad_runs():
    assert most_bad_runs(5, 0) == pytest.approx(1 - 0.05 ** (1 / 5))  # 45 %
    assert most_bad_runs(0, 0) == most_bad_runs(0, 4) == 1.0
    for finished, failed in ((5, 2), (20, 1)):  # so few are seen in 5 % of cases at that rate
        rate = most_bad_runs(finished, failed)
        assert binom.cdf(failed, finished + failed, rate) == pytest.approx(0.05)
