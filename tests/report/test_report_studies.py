"""Arms that were tuned several times: a verdict counts studies, each with settings of its own."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from bench.merge.curves import steps
from bench.merge.tuned import tunings
from bench.report.anytime import courses
from bench.report.page.tuning import tuning_tables
from bench.report.tuning import on_both_splits, simulated_error, within
from bench.statistics.ends import End
from bench.statistics.verdict import Verdict
from tests.builders.answers import Answer
from tests.builders.results import Results
from tests.report.test_report_tuning import rows_of

ASKED = """
name: tiny
matrix: {model: [m], optimizer: [o], device: [cpu], seed: [1]}
tune:
  {trials: 6, studies: 5, seeds: [101, 102, 103, 104, 105], space: {lr: {log: [0.001, 1.0]}}}
claim: {baseline: {model: gpt, optimizer: adamw}, metric: test_loss_final, margin: 0.01}
"""
RATES = [0.01, 0.003, 0.03, 0.1, 0.3, 0.9]
STUDIES = range(1, 6)
# Of muon less adamw on the ten seeds of the five studies; the means of pairs are what counts.
APART = [-0.10, -0.12, -0.09, -0.13, -0.11, -0.11, -0.08, -0.12, -0.12, -0.08]
OF_STUDIES = [-0.11, -0.11, -0.11, -0.10, -0.10]


def studied(path: Path, bettered=True, split_apart=0.0, edge=False) -> Results:
    """Two arms of ten seeds, untuned; six trials a study; tuned arms on two seeds a study.

    Where muon is not `bettered`, its third study has chosen the untuned setting.
    """
    folder = Results(path)
    for optimizer in ("adamw", "muon"):
        for seed in range(1, 11):
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            twin = optimizer == "muon" and not bettered and study_of(seed) == 3
            loss = 2.0 + APART[seed - 1] if twin else 2.5
            folder.ended(run_id, val_loss_final=loss, test_loss_final=loss)
    for study in STUDIES:
        for optimizer in ("adamw", "muon"):
            for number, rate in enumerate(RATES, start=1):
                trial(folder, optimizer, study, number, rate, edge)
    for optimizer in ("adamw", "muon"):
        for seed in range(1, 11):
            tuned(folder, optimizer, seed, bettered, split_apart)
    return folder


def study_of(seed: int) -> int:
    return (seed + 1) // 2


def trial(folder: Results, optimizer: str, study: int, number: int, rate: float, edge: bool):
    name = f"{optimizer}-study-{study}-trial-{number}"
    run_id = folder.planned(optimizer=name, seed=100 + study)
    about = {"part": "trial", "tuned_optimizer": optimizer, "trial": number, "study": study}
    folder.plan[-1] |= about
    place = math.log(rate / 0.001) / math.log(1000)
    loss = 2 + 1.2 * (place - (1.0 if edge else 0.5)) ** 2 + 0.001 * study
    settings = json.dumps({"lr": rate})
    folder.ended(run_id, val_loss_final=loss, tuned_settings=settings, **about)


def tuned(folder: Results, optimizer: str, seed: int, bettered: bool, split_apart: float):
    study = study_of(seed)
    folder.planned(optimizer=f"{optimizer}-tuned", seed=seed, arm=f"{optimizer}-of-{study}")
    row = folder.plan[-1]
    about = {"part": "tuned", "tuned_optimizer": optimizer, "trial": 3, "study": study}
    row |= about
    if optimizer == "muon" and not bettered and study == 3:
        row |= {"run_id": f"gpt/muon/cpu#{seed}", "arm_id": "gpt/muon/cpu", "trial": 1}
        return
    shared = 0.01 * (seed % 3)
    loss = 2.0 + shared + (APART[seed - 1] if optimizer == "muon" else 0.0)
    val = loss + (split_apart * (1 + 0.01 * seed) if optimizer == "muon" else 0.0)
    folder.ended(row["run_id"], val_loss_final=val, test_loss_final=loss, **about)
    folder.curve(row["run_id"], [(step, step / 20, val + 1 - step / 100) for step in (0, 50, 100)])


@pytest.fixture
def answer(tmp_path: Path) -> Answer:
    return Answer(studied(tmp_path / "r"), ASKED)


def test_a_tuned_arm_has_all_its_studies_though_their_settings_differ(answer):
    labels = [arm.label for arm in answer.section.arms]
    assert labels == ["gpt + adamw", "gpt + muon", "gpt + adamw-tuned", "gpt + muon-tuned"]
    arm = answer.section.arms[3]
    assert arm.unit == "study"
    assert arm.seeds_of == {study: (2 * study - 1, 2 * study) for study in STUDIES}
    assert answer.section.arms[0].unit == "seed"


def test_the_verdict_counts_studies_and_not_their_seeds(answer):
    (found,) = answer.family.comparisons
    assert found.contrast.n == 5
    assert list(found.contrast.by_seed.values()) == pytest.approx(OF_STUDIES)
    test = stats.ttest_1samp(OF_STUDIES, 0.0).confidence_interval(answer.family.confidence)
    assert found.contrast.interval.low == pytest.approx(test.low)
    assert found.contrast.interval.high == pytest.approx(test.high)
    assert found.verdict is Verdict.BETTER
    assert "is better on 5 of 5 planned studies" in answer.headline.lead
    assert "each configuration tuned 5 times in 6 trials on 1 seed" in answer.headline.lead


def test_the_course_of_a_difference_is_over_studies(answer):
    (course,) = courses(answer.section, answer.family, steps)
    assert course.n == 5
    assert course.mean == pytest.approx(np.full(10, np.mean(OF_STUDIES)))
    sd = np.std(OF_STUDIES, ddof=1)
    level = 1 - answer.family.alpha / 10
    assert course.half == pytest.approx(stats.t.ppf((1 + level) / 2, 4) * sd / math.sqrt(5))


def test_a_study_that_chose_the_untuned_setting_joins_the_others(tmp_path):
    answer = Answer(studied(tmp_path / "r", bettered=False), ASKED)
    assert len(answer.section.arms) == 4
    assert [*answer.section.arms[3].seeds_of] == [*STUDIES]
    (found,) = answer.family.comparisons
    assert found.contrast.n == 5


@pytest.mark.parametrize(("status", "end"), [("diverged", End.DIVERGED), ("crashed", End.FAILED)])
def test_a_study_of_which_one_seed_failed_has_failed(tmp_path, status, end):
    folder = studied(tmp_path / "r")
    failed = next(r for r in folder.runs if r["optimizer"] == "muon-tuned" and r["seed"] == 4)
    failed |= {"status": status, "val_loss_final": "", "test_loss_final": ""}
    answer = Answer(folder, ASKED)
    (found,) = answer.family.comparisons
    assert answer.section.arms[3].end(2) is end
    assert (found.contrast.n, found.ends.count[end, End.FINISHED]) == (4, 1)
    assert found.verdict is not Verdict.BETTER


def test_a_study_that_lacks_a_seed_is_missing_and_not_a_mean_over_fewer(tmp_path):
    folder = studied(tmp_path / "r")
    open_one = next(r for r in folder.runs if r["optimizer"] == "muon-tuned" and r["seed"] == 4)
    folder.runs.remove(open_one)
    (found,) = Answer(folder, ASKED).family.comparisons
    assert sorted(found.contrast.by_seed) == [1, 3, 4, 5]
    assert found.ends.count[End.MISSING, End.FINISHED] == 1


def test_four_studies_are_too_few(tmp_path):
    folder = studied(tmp_path / "r")
    for row in folder.plan:
        if str(row.get("study")) == "5":
            row["selected"] = False
    (found,) = Answer(folder, ASKED).family.comparisons
    assert (found.verdict, found.contrast.n) == (Verdict.TOO_FEW, 4)
    assert found.judgement.why == "4 pairs of studies; a verdict needs 5"


def test_the_page_tells_each_study_and_what_the_choice_is_worth(answer):
    chosen, carried, _ = tuning_tables(answer.section, answer.family, answer.asked)
    assert [row["configuration"] for row in rows_of(chosen)][:2] == [
        "gpt + adamw, study 1",
        "gpt + muon, study 1",
    ]
    assert rows_of(chosen)[1]["tuned, test_loss_final"] == f"{2 + 0.015 - 0.11:.4f}"
    assert {row["untuned, test_loss_final"] for row in rows_of(chosen)} == {"2.5000"}
    adamw, _ = rows_of(carried)
    assert adamw["lr within the margin"] == "0.03 to 0.03, a factor of 1"
    assert float(adamw["tuning's error (simulated)"]) > 0


def test_rates_within_a_margin_are_those_of_trials_as_good_as_that(answer):
    studies = [one for one in tunings(answer.section, "val_loss_final") if one.optimizer == "muon"]
    assert within(studies, "lr", 0.04, more_is_better=False) == (0.01, 0.1)
    assert within(studies, "lr", 0.01, more_is_better=False) == (0.03, 0.03)


def test_the_error_of_tuning_is_of_the_shape_that_trials_show(answer):
    studies = [one for one in tunings(answer.section, "val_loss_final") if one.optimizer == "muon"]
    found = simulated_error(studies, answer.asked.tune.space)
    assert found == pytest.approx(0.0049, abs=0.0005)  # of six even points, none further than 0.1
    assert simulated_error(studies[:1], answer.asked.tune.space) is None


def test_splits_that_disagree_are_named(tmp_path):
    answer = Answer(studied(tmp_path / "r", split_apart=-0.03), ASKED)
    (found,) = answer.family.comparisons
    splits = on_both_splits(found, answer.family, "val_loss_final")
    expected = [
        apart - 0.03 * (1 + 0.01 * (2 * study - 0.5))
        for study, apart in zip(STUDIES, OF_STUDIES, strict=True)
    ]
    assert splits.chosen_by.mean == pytest.approx(np.mean(expected))
    assert splits.disagree
    assert any("the splits disagree by more than chance" in p for p in answer.headline.points)
    (row,) = rows_of(tuning_tables(answer.section, answer.family, answer.asked)[2])
    assert row["on the split of the choice"].endswith(", disagrees")


def test_splits_that_agree_are_not(answer):
    (found,) = answer.family.comparisons
    assert not on_both_splits(found, answer.family, "val_loss_final").disagree
    assert not any("splits disagree" in point for point in answer.headline.points)
    assert on_both_splits(found, answer.family, "test_loss_final") is None


def test_an_optimum_at_the_edge_is_in_the_first_sentence(tmp_path, answer):
    assert "edge" not in answer.headline.lead
    lead = Answer(studied(tmp_path / "edge", edge=True), ASKED).headline.lead
    assert lead.endswith(
        "; at the edge of what was tried: the best lr of gpt + adamw and gpt + muon."
    )
