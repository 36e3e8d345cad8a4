"""The rates that docs/statistics.md gives are those of the report's own formulas, and hold."""

import calibration
import numpy as np
import pytest
from calibration import ARMS, DRAWS, MARGIN, Verdicts
from conftest import ROOT

from bench.report.statistics.contrast import paired
from bench.report.statistics.verdict import (
    ALPHA,
    LEAST_SEEDS_LOSS,
    Diverged,
    Verdict,
    alpha_of_look,
    judge,
)

FIRST_LOOK = alpha_of_look(1) / (ARMS - 1)
SAMPLE = 150  # draws that are judged one by one as well


def judged(new, base, alpha, margin=None) -> Verdict:
    """The report's verdict on one arm; a figure of NaN is a seed that diverged."""
    new_seeds = {seed: float(value) for seed, value in enumerate(new) if np.isfinite(value)}
    base_seeds = {seed: float(value) for seed, value in enumerate(base) if np.isfinite(value)}
    diverged = Diverged(
        new_alone=len(base_seeds.keys() - new_seeds.keys()),
        base_alone=len(new_seeds.keys() - base_seeds.keys()),
        both=len(new) - len(base_seeds.keys() | new_seeds.keys()),
    )
    return judge(
        paired(new_seeds, base_seeds, relative=False, confidence=1 - alpha),
        margin=margin,
        lower_is_better=True,
        least_seeds=LEAST_SEEDS_LOSS,
        diverged=diverged,
    ).verdict


def assert_judged_alike(figures, verdicts: Verdicts, alpha, margin=None) -> None:
    seen = set()
    for draw in range(SAMPLE):
        for arm in range(1, ARMS):
            found = judged(figures[draw, arm], figures[draw, 0], alpha, margin)
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
def test_simulated_verdicts_with_diverged_seeds_are_the_reports(n):
    figures, alpha = calibration.equal_arms(n), 0.1  # 5 pairs of one sign have p = 0.0625
    figures[:, 1] += 3
    figures[:, 2] -= 3
    chances = np.array([0.1, 0.1, 0.2, 0.5])[:, None]
    diverged = np.random.default_rng(3).random(figures.shape) < chances
    diverged[0, :2] = True  # no pair is left
    found = calibration.with_diverged(figures, diverged, alpha)
    assert_judged_alike(np.where(diverged, np.nan, figures), found, alpha)


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


def test_the_document_has_these_figures():
    text = (ROOT / "docs" / "statistics.md").read_text()
    for table in calibration.tables():
        assert table in text, f"docs/statistics.md lacks:\n{table}\nRun python tests/calibration.py"
