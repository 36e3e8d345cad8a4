"""The rates that docs/statistics.md gives are those of the report's own formulas, and hold."""

import math
from collections import Counter

import numpy as np
import pytest

from bench.statistics.contrast import difference
from bench.statistics.ends import End, Ends
from bench.statistics.verdict import (
    ALPHA,
    LEAST_SEEDS_LOSS,
    LEAST_SEEDS_OTHER,
    Verdict,
    alpha_of_look,
    judge,
)
from tests.builders.shared import ROOT
from tests.statistics import calibration
from tests.statistics.calibration import ARMS, DONE, DRAWS, ENDS, MARGIN, Verdicts

FIRST_LOOK = alpha_of_look(1) / (ARMS - 1)
SAMPLE = 150  # draws that are judged one by one as well


def judged(new, base, ends, alpha, margin=None) -> Verdict:
    """The report's verdict on one arm; `ends` (2, seeds): the baseline's and the arm's."""
    named = [(ENDS[one], ENDS[other]) for other, one in ends.T]
    seeds = [seed for seed, pair in enumerate(named) if pair == (End.FINISHED, End.FINISHED)]
    contrast = difference(
        {seed: float(new[seed]) for seed in seeds},
        {seed: float(base[seed]) for seed in seeds},
        relative=False,
        confidence=1 - alpha,
    )
    return judge(
        contrast,
        Ends(Counter(named)),
        margin=margin,
        lower_is_better=True,
        least_seeds=LEAST_SEEDS_LOSS,
    ).verdict


def assert_judged_alike(figures, verdicts: Verdicts, alpha, margin=None, ends=None) -> None:
    seen = set()
    if ends is None:
        ends = np.full(figures.shape, DONE)
    for draw in range(SAMPLE):
        for arm in range(1, ARMS):
            found = judged(
                figures[draw, arm], figures[draw, 0], ends[draw, [0, arm]], alpha, margin
            )
            seen.add(found)
            assert verdicts.better[draw, arm - 1] == (found is Verdict.BETTER)
            assert verdicts.worse[draw, arm - 1] == (found is Verdict.WORSE)
            assert verdicts.equivalent[draw, arm - 1] == (found is Verdict.EQUIVALENT)
    assert {Verdict.BETTER, Verdict.WORSE, Verdict.UNDECIDED} <= seen
    assert (Verdict.EQUIVALENT in seen) is (margin is not None)


@pytest.mark.parametrize("n", [5, 10])
def test_simulated_verdicts_are_the_reports(n):
    figures = calibration.equal_arms(n)
    figures[:50, 1] += 3
    figures[:50, 2] -= 3
    figures[50:100] *= 0.2
    found = calibration.by_interval(calibration.differences(figures), FIRST_LOOK, MARGIN)
    assert_judged_alike(figures, found, FIRST_LOOK, MARGIN)


@pytest.mark.parametrize("n", [5, 10])
def test_simulated_verdicts_of_seeds_that_did_not_finish_are_the_reports(n):
    figures, alpha = calibration.equal_arms(n), 0.1  # 5 seeds of one sign have p = 0.03
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
    ends[0, :2] = calibration.MISSING  # no pair is left
    found = calibration.with_ends(figures, ends, alpha)
    assert_judged_alike(figures, found, alpha, ends=ends)


@pytest.mark.parametrize("fate", calibration.FATES)
def test_no_end_of_its_bad_seeds_makes_an_equal_arm_better(fate):
    nominal = alpha_of_look(1) / 2
    highest = nominal + 3 * np.sqrt(nominal / DRAWS)
    for cut in calibration.CUTS:
        assert calibration.better_in_spite_of(fate, *cut) < highest, cut


def test_what_a_raised_limit_makes_good_is_finished_and_nothing_else_that_failed():
    found = {fate: ENDS[calibration.end_after(fate)] for fate in calibration.FATES}
    lost = ("lost to the machine", "interrupted", "never run")
    assert {fate for fate, end in found.items() if end is End.FINISHED} == {
        "the same with a raised limit"
    }
    assert {fate for fate, end in found.items() if end is End.MISSING} == set(lost)


@pytest.mark.parametrize("n", [5, 10])
def test_equal_arms_are_told_apart_no_more_often_than_promised(n):
    rates = calibration.family_wise_rates(n)
    assert rates["equal arms, every arm at 5 %: no correction"] > 0.1  # so the correction shows
    for name, rate in rates.items():
        if "no correction" not in name and "unequal" not in name:
            assert rate < (0.055 if "the family at 5 %" in name else 0.0275), name


def test_looking_again_finds_no_more_than_promised():
    rates = calibration.repeated_looks()
    assert rates["every look at 5 %"] > 0.1
    assert ALPHA / 2 < rates["the report's α / k(k + 1)"] < 0.055


@pytest.mark.parametrize("n", [5, 10])
def test_wrong_verdicts_are_rarer_than_their_level(n):
    highest = FIRST_LOOK / 2 + 3 * np.sqrt(FIRST_LOOK / 2 / (DRAWS * (ARMS - 1)))
    rates = calibration.wrong_verdicts(n)
    wrong = [rate for name, rate in rates.items() if "right" not in name]
    assert len(wrong) == 4
    assert max(wrong) < highest
    assert min(rate for name, rate in rates.items() if "right" in name) > 0.9


@pytest.mark.parametrize("look", [1, 2])
@pytest.mark.parametrize("ratio", calibration.RATIOS)
def test_as_many_seeds_as_would_decide_do_decide(ratio, look):
    found = calibration.powered(ratio, look)
    assert found.found >= 0.78
    assert found.found == pytest.approx(found.promised, abs=0.02)


def judged_ratio(new, base, alpha, more_is_better) -> Verdict:
    contrast = difference(
        dict(enumerate(map(float, new))),
        dict(enumerate(map(float, base))),
        relative=True,
        confidence=1 - alpha,
    )
    finished = (End.FINISHED, End.FINISHED)
    return judge(
        contrast,
        Ends(Counter({finished: len(new)})),
        margin=math.log1p(calibration.SHARE),
        lower_is_better=not more_is_better,
        least_seeds=LEAST_SEEDS_OTHER,
    ).verdict


@pytest.mark.parametrize("more_is_better", [False, True])
@pytest.mark.parametrize("n", calibration.RATIO_SEEDS)
def test_simulated_verdicts_on_ratios_are_the_reports(n, more_is_better):
    figures = calibration.ratios(n)
    figures[:80, 1] *= 1 + calibration.SHARE
    figures[:80, 2] /= 1 + calibration.SHARE
    found = calibration.by_ratio(figures, FIRST_LOOK, more_is_better)
    seen = Counter()
    for draw in range(SAMPLE):
        for arm in range(1, ARMS):
            told = judged_ratio(figures[draw, arm], figures[draw, 0], FIRST_LOOK, more_is_better)
            seen[told, arm] += 1
            assert found.better[draw, arm - 1] == (told is Verdict.BETTER)
            assert found.worse[draw, arm - 1] == (told is Verdict.WORSE)
            assert found.equivalent[draw, arm - 1] == (told is Verdict.EQUIVALENT)
    up, down = (Verdict.BETTER, Verdict.WORSE)[:: 1 if more_is_better else -1]
    assert seen[up, 1] > 20
    assert seen[down, 2] > 20
    assert seen[Verdict.EQUIVALENT, 3] > 20


@pytest.mark.slow
@pytest.mark.parametrize("more_is_better", [False, True])
@pytest.mark.parametrize("n", calibration.RATIO_SEEDS)
def test_wrong_verdicts_on_ratios_are_rarer_than_their_level(n, more_is_better):
    rates = calibration.ratio_verdicts(n, more_is_better)
    highest = FIRST_LOOK + 3 * np.sqrt(FIRST_LOOK / (DRAWS * (ARMS - 1)))
    wrong = [rate for name, rate in rates.items() if "right" not in name]
    assert len(wrong) == 3
    assert max(wrong) < highest
    assert max(calibration.ratio_rates(n).values()) < 0.055


@pytest.mark.slow
def test_the_document_has_the_figures_of_ratios():
    text = (ROOT / "docs" / "statistics.md").read_text()
    for table in calibration.ratio_tables():
        assert table in text, f"docs/statistics.md lacks:\n{table}"


@pytest.mark.slow
def test_the_document_has_these_figures():
    text = (ROOT / "docs" / "statistics.md").read_text()
    for table in calibration.tables():
        assert table in text, (
            f"docs/statistics.md lacks:\n{table}\nRun python -m tests.statistics.calibration"
        )
