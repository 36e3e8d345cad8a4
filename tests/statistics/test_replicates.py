"""Runs that make no pairs: contrasts of means, ranks where some failed, and how often they err."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu, t, ttest_ind

from bench.statistics.contrast import unpaired
from bench.statistics.ends import FAILURES, Ends
from bench.statistics.ladder import make_ladder
from bench.statistics.power import power, seeds_for
from bench.statistics.verdict import LEAST_SEEDS_LOSS, Judgement, Verdict, alpha_of_look, judge
from tests.builders.shared import ROOT
from tests.statistics import replicates
from tests.statistics.calibration import ARMS, CUTS, DRAWS, ENDS, FATES, MARGIN
from tests.statistics.test_verdict import DIVERGED, DONE, FAILED, MISSING, PAIR, STEADY, ends_of

FIRST_LOOK = alpha_of_look(1) / (ARMS - 1)
SAMPLE = 150  # draws that are judged one by one as well
SHORT = settings(deadline=None, derandomize=True, database=None, max_examples=60)
figures_of = st.lists(st.floats(0.5, 5.0), min_size=2, max_size=12)


def by_seed(values) -> dict[int, float]:
    return {seed: float(value) for seed, value in enumerate(values, start=1)}


def contrast_of(new, base, confidence=0.95, relative=False):
    terms = (1, by_seed(new)), (-1, by_seed(base))
    return unpaired(*terms, relative=relative, confidence=confidence)


# --- contrasts


@SHORT
@given(figures_of, figures_of, st.sampled_from([0.9, 0.95, 1 - 0.05 / 6]), st.booleans())
def test_a_contrast_is_welchs_t_test_of_scipy(new, base, confidence, relative):
    contrast = contrast_of(new, base, confidence, relative)
    left, right = (np.log(new), np.log(base)) if relative else (np.array(new), np.array(base))
    assert contrast.n == min(len(new), len(base))
    assert contrast.mean == pytest.approx(left.mean() - right.mean(), abs=1e-9)
    assert not contrast.is_paired
    if min(np.ptp(left), np.ptp(right)) < 1e-3:
        return  # scipy warns of what hardly varies
    expected = ttest_ind(left, right, equal_var=False)
    low, high = expected.confidence_interval(confidence)
    assert (contrast.interval.low, contrast.interval.high) == pytest.approx((low, high), rel=1e-6)
    assert contrast.sd == pytest.approx(math.hypot(left.std(ddof=1), right.std(ddof=1)))
    if len(new) == len(base):
        assert contrast.freedom == pytest.approx(expected.df / (len(new) - 1))


def test_what_a_seed_shares_is_not_taken_out():
    base, new = [1.0, 2.0, 3.0, 4.0, 5.0], [1.1, 2.1, 3.1, 4.1, 5.1]
    assert not contrast_of(new, base).interval.excludes(0)
    assert contrast_of(new, base).mean == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("new", "base", "zero", "constant"),
    [
        ([2.0] * 5, [2.0] * 5, True, True),
        ([2.0] * 5, [1.0] * 5, False, True),
        ([2.0] * 5, [1.0, 3.0, 2.0, 2.0, 2.0], False, False),
        ([], [1.0], False, False),
    ],
)
def test_runs_that_do_not_vary_have_no_interval(new, base, zero, constant):
    contrast = contrast_of(new, base)
    assert (contrast.is_zero, contrast.is_constant) == (zero, constant)
    assert (contrast.interval is None) is (constant or not new)


def test_an_interaction_is_of_four_arms_and_the_parts_sum_to_the_whole():
    base, top = ("gpt", "adamw"), ("kimi", "muon")
    draw = np.random.default_rng(4)
    arms = {
        base: by_seed(draw.normal(2.0, 0.1, 6)),
        ("gpt", "muon"): by_seed(draw.normal(1.9, 0.1, 5)),
        ("kimi", "adamw"): by_seed(draw.normal(1.8, 0.2, 7)),
        top: by_seed(draw.normal(1.7, 0.1, 5)),
    }
    ladder = make_ladder(arms, base, top, relative=False, confidence=0.95, pairs=False)
    parts = (ladder.by_optimizer, ladder.by_model, ladder.interaction)
    assert sum(part.mean for part in parts) == pytest.approx(ladder.whole.mean)
    assert ladder.whole.mean == pytest.approx(
        np.mean([*arms[top].values()]) - np.mean([*arms[base].values()])
    )
    assert [len(part.groups) for part in (*parts, ladder.whole)] == [2, 2, 4, 2]
    errors = [np.var([*arm.values()], ddof=1) / len(arm) for arm in arms.values()]
    interval = ladder.interaction.interval
    freedom = sum(errors) ** 2 / sum(
        error**2 / (len(arm) - 1) for error, arm in zip(errors, arms.values(), strict=True)
    )
    half = t.ppf(0.975, freedom) * math.sqrt(sum(errors))
    assert (interval.high - interval.low) / 2 == pytest.approx(half)


def test_seeds_that_would_decide_two_samples_are_cohens():
    # Cohen 1988, two samples, d = 0.5, α = 0.05 two-sided, power 0.8: 64 of each.
    assert seeds_for(math.sqrt(2), 0.5, 0.05, least=2, freedom=2.0) == 64
    assert power(64, math.sqrt(2), 0.5, 0.05, 2.0) == pytest.approx(0.8015, abs=5e-4)


# --- verdicts


def verdict(new, base, ends, *, margin=None, lower=True, confidence=0.95) -> Judgement:
    return judge(
        contrast_of(new, base, confidence),
        Ends(ends),
        margin=margin,
        lower_is_better=lower,
        least_seeds=LEAST_SEEDS_LOSS,
    )


LOW, HIGH = [1.0, 1.1, 1.2, 1.3, 1.4], [2.0, 2.1, 2.2, 2.3, 2.4]


def test_whole_runs_are_judged_by_their_interval():
    assert verdict(LOW, HIGH, {PAIR: 5}).verdict is Verdict.BETTER
    assert verdict(LOW, HIGH, {PAIR: 5}, lower=False).verdict is Verdict.WORSE
    assert verdict(LOW, LOW[::-1], {PAIR: 5}, margin=1.0).verdict is Verdict.EQUIVALENT
    assert verdict(LOW, LOW[::-1], {PAIR: 5}).verdict is Verdict.UNDECIDED
    assert verdict([2.0] * 5, [2.0] * 5, {PAIR: 5}) == Judgement(
        Verdict.IDENTICAL, "equal to the last digit in all runs"
    )
    assert verdict([2.0] * 5, [1.0] * 5, {PAIR: 5}) == Judgement(
        Verdict.NOT_AVAILABLE, "the same figure in all runs of each: no variance"
    )
    assert verdict(LOW[:4], HIGH[:4], {PAIR: 4}) == Judgement(
        Verdict.TOO_FEW, "4 runs of a configuration; a verdict needs 5"
    )


def test_ranks_by_hand():
    # 6 runs that all rank before 6 others: 1 of 924 orders.
    ends = {PAIR: 5, (DONE, DIVERGED): 1}
    won = verdict([*LOW, 1.5], HIGH, ends)
    assert won == Judgement(Verdict.BETTER, "36 of 36 comparisons of two runs")
    lacking = {PAIR: 5, (MISSING, DONE): 1}
    # 5 that do and one that is last: 30 of 36 pairs won, p = 0.0325 of one side by any table.
    assert verdict(LOW, [*HIGH, 2.5], lacking, confidence=1 - 2 * 0.033) == Judgement(
        Verdict.BETTER, "30 of 36 comparisons of two runs"
    )
    level = 1 - 2 * 0.032
    assert verdict(LOW, [*HIGH, 2.5], lacking, confidence=level).verdict is Verdict.UNDECIDED
    # A baseline that crashed might have been the best of all.
    crashed = {PAIR: 5, (DONE, FAILED): 1}
    found = verdict([*LOW, 1.5], HIGH, crashed, confidence=0.9)
    assert found.why == "30 of 36 comparisons of two runs"
    few = {PAIR: 4, (DIVERGED, DONE): 0, (MISSING, DONE): 1}
    assert verdict(LOW[:4], HIGH, few).verdict is Verdict.TOO_FEW


def test_equal_figures_rank_against_the_verdict():
    ends = {PAIR: 5, (MISSING, DONE): 1}
    same = verdict([1.0] * 5, [1.0] * 6, ends)
    assert same == Judgement(Verdict.UNDECIDED, "by the rank of 6 runs each")


@STEADY
@given(figures_of, st.data(), st.integers(3, 8))
def test_ranks_without_failures_are_those_of_scipy(pool, data, n):
    """The rank test itself, with figures that all differ."""
    values = data.draw(st.lists(st.integers(0, 999), min_size=2 * n, max_size=2 * n, unique=True))
    new, base = values[:n], values[n:]
    expected = mannwhitneyu(new, base, alternative="less", method="exact").pvalue
    won = sum(one < other for one in new for other in base)
    for alpha in (0.01, 0.05, 0.2):
        assert (won >= replicates.least_won(n, alpha)) is bool(expected <= alpha / 2)


@STEADY
@given(st.lists(st.floats(0, 1), max_size=9), st.lists(st.floats(0, 1), max_size=9), ends_of)
def test_the_verdict_on_swapped_arms_is_the_mirror_image(new, base, rest):
    mirror = {Verdict.BETTER: Verdict.WORSE, Verdict.WORSE: Verdict.BETTER}
    swapped = {(other, one): n for (one, other), n in rest.items()}
    ends = {**rest, PAIR: min(len(new), len(base))}
    one = verdict(new, base, ends).verdict
    other = verdict(base, new, {**swapped, PAIR: ends[PAIR]}).verdict
    assert other is mirror.get(one, one)


def ended(draw: st.DataObject, n: int):
    """(ends, new, base) of so many numbers, each arm with a figure where it finished."""
    how = st.sampled_from([DONE, DONE, DONE, DIVERGED, FAILED, MISSING])
    pairs = draw.draw(st.lists(st.tuples(how, how), min_size=n, max_size=n))
    figure = st.floats(0, 1)
    return [(pair, draw.draw(figure), draw.draw(figure)) for pair in pairs]


def judged_runs(runs, **options) -> Verdict:
    new = [one for (end, _), one, _ in runs if end is DONE]
    base = [other for (_, end), _, other in runs if end is DONE]
    return verdict(new, base, Counter(pair for pair, _, _ in runs), **options).verdict


@STEADY
@given(st.data(), st.integers(5, 14), st.sampled_from(FAILURES), st.booleans())
def test_one_more_failure_makes_no_verdict_on_its_arm_kinder(data, n, how, is_new):
    """A run that finished, or was missing, fails instead."""
    runs = ended(data, n)
    place = data.draw(st.integers(0, n - 1))
    (new, base), *figures = runs[place]
    before = judged_runs(runs, margin=0.3, confidence=0.9)
    runs[place] = ((how, base) if is_new else (new, how), *figures)
    after = judged_runs(runs, margin=0.3, confidence=0.9)
    kind = Verdict.BETTER if is_new else Verdict.WORSE
    if after in (kind, Verdict.EQUIVALENT, Verdict.IDENTICAL):
        assert after is before


@STEADY
@given(st.data(), st.integers(5, 14))
def test_whoever_failed_more_often_is_never_better_nor_as_good(data, n):
    runs = ended(data, n)
    failed = [sum(pair[i] in FAILURES for pair, _, _ in runs) for i in (0, 1)]
    found = judged_runs(runs, margin=9.0, confidence=0.7)
    if failed[0] > failed[1]:
        assert found not in (Verdict.BETTER, Verdict.EQUIVALENT, Verdict.IDENTICAL)
    if failed[1] > failed[0]:
        assert found not in (Verdict.WORSE, Verdict.EQUIVALENT, Verdict.IDENTICAL)


# --- how often they err


def assert_judged_alike(figures, ends, found, alpha, margin=None) -> None:
    seen = set()
    for draw in range(SAMPLE):
        for arm in range(1, ARMS):
            named = [
                tuple(ENDS[ends[draw, i, run]] for i in (arm, 0)) for run in range(ends.shape[2])
            ]
            new, base = (figures[draw, i][ends[draw, i] == 0] for i in (arm, 0))
            one = verdict(new, base, Counter(named), margin=margin, confidence=1 - alpha).verdict
            seen.add(one)
            assert found.better[draw, arm - 1] == (one is Verdict.BETTER)
            assert found.worse[draw, arm - 1] == (one is Verdict.WORSE)
            assert found.equivalent[draw, arm - 1] == (one is Verdict.EQUIVALENT)
    assert {Verdict.BETTER, Verdict.WORSE, Verdict.UNDECIDED} <= seen


@pytest.mark.parametrize("n", [5, 10])
def test_simulated_verdicts_are_the_reports(n):
    figures = replicates.equal_runs(n, np.ones(ARMS))
    figures[:50, 1] += 5
    figures[:50, 2] -= 5
    figures[50:100] *= 0.2
    found = replicates.by_welch(figures, FIRST_LOOK, MARGIN)
    assert_judged_alike(figures, np.zeros(figures.shape, int), found, FIRST_LOOK, MARGIN)


@pytest.mark.parametrize("n", [5, 10])
def test_simulated_verdicts_of_runs_that_did_not_finish_are_the_reports(n):
    figures, alpha = replicates.equal_runs(n, np.ones(ARMS)), 0.1
    figures[:, 1] += 3
    figures[:, 2] -= 3
    draw = np.random.default_rng(3)
    shares = (
        (0.9, 0.1, 0, 0),
        (0.9, 0.08, 0.01, 0.01),
        (0.8, 0.1, 0.05, 0.05),
        (0.4, 0.2, 0.2, 0.2),
    )
    ends = np.stack([draw.choice(len(ENDS), size=(DRAWS, n), p=share) for share in shares], axis=1)
    found = replicates.by_rank(figures, ends, alpha)
    assert_judged_alike(figures, ends, found, alpha)


@pytest.mark.parametrize("fate", FATES)
def test_no_end_of_its_bad_runs_makes_an_equal_arm_better(fate):
    nominal = alpha_of_look(1) / 2
    highest = nominal + 3 * np.sqrt(nominal / DRAWS)
    for cut in CUTS[:1] if fate != "lost to the machine" else CUTS:
        assert replicates.better_in_spite_of(fate, *cut) < highest, cut


@pytest.mark.parametrize("n", [5, 10])
def test_equal_arms_are_told_apart_no_more_often_than_promised(n):
    for name, rate in replicates.family_wise_rates(n).items():
        assert rate < (0.055 if "the family at 5 %" in name else 0.0300), name


@pytest.mark.slow
def test_the_document_has_these_figures():
    text = (ROOT / "docs" / "statistics.md").read_text()
    for table in replicates.tables():
        assert table in text, (
            f"docs/statistics.md lacks:\n{table}\nRun python -m tests.statistics.replicates"
        )
