"""Tuning that is done several times, in two stages, by the size of the space, over training too."""

import json
import math
import re
from collections import Counter

import pytest

from bench.border.options import AdamWOptions, TrainOptions
from bench.matrix.expansion import load_matrix
from bench.matrix.space import Tunable, around, sequence, to_try
from bench.matrix.tune_forms import Linear, Log
from bench.records.rows import read_table
from tests.builders.shared import bench
from tests.builders.tuning import CONTENT, mistakes, parts, row_of, write

SPACE = {"lr": Log(log=[1e-4, 1e-1]), "beta2": [0.9, 0.99], "beta1": Linear(linear=[0.5, 0.9])}


def points(study: int, n=8):
    found = sequence(SPACE, study)
    return [next(found) for _ in range(n)]


# --- Points


def test_the_first_study_has_the_points_that_a_single_tuning_has():
    assert points(1) == [point for point, _ in zip(sequence(SPACE), range(8), strict=False)]


def test_no_two_studies_share_a_value_of_a_range():
    rates = [point["lr"] for study in range(1, 11) for point in points(study)]
    assert len(set(rates)) == len(rates)
    assert all(1e-4 <= rate <= 1e-1 for rate in rates)


@pytest.mark.parametrize("study", [1, 2, 7])
def test_every_study_is_spread_evenly_over_a_range(study):
    """Of 8 points one to each eighth at least nearly: no two thirds of a range stay empty."""
    places = sorted(math.log(point["lr"] / 1e-4) / math.log(1e3) for point in points(study))
    gaps = [b - a for a, b in zip([places[-1] - 1, *places], places, strict=False)]
    assert max(gaps) < 0.26


def test_a_second_stage_looks_at_a_quarter_of_each_range_around_the_best():
    found = around(SPACE, AdamWOptions(lr=1e-3, beta1=0.88, beta2=0.99))
    low, high = found["lr"].ends
    assert high / low == pytest.approx(1e3**0.25)
    assert math.sqrt(low * high) == pytest.approx(1e-3)
    assert found["beta1"].ends == pytest.approx([0.8, 0.9])  # as far as the range goes
    assert found["beta2"] == [0.99]


def test_what_is_tried_of_training_goes_where_it_belongs():
    mine = Tunable(AdamWOptions(), TrainOptions(steps=100))
    space = {"lr": Log(log=[1e-4, 1e-1]), "warmup_steps": [0, 10], "schedule": ["cosine"]}
    tried = to_try(space, mine, 5, "quasi-random")
    assert tried[0] == mine
    assert {one.train.schedule for one in tried[1:]} == {"cosine"}
    assert {one.train.warmup_steps for one in tried[1:]} == {0, 10}
    assert len({one.options.lr for one in tried}) == 5


# --- The plan


def test_studies_share_out_the_seeds_in_their_order(tmp_path):
    file = write(tmp_path, studies=2, seeds=[101, 102], trials=3)
    of = parts(load_matrix(file))
    tried = {(cell.tried.study, cell.spec.seed) for cell in of["trial"]}
    judged = {(cell.tried.study, cell.spec.seed) for cell in of["tuned"]}
    assert (tried, judged) == ({(1, 101), (2, 102)}, {(1, 1), (2, 2)})
    assert len(of["trial"]) == 2 * 2 * 3
    assert {cell.spec.optimizer.name for cell in of["trial"]} >= {
        "adamw-study-1-trial-1",
        "truemuon-study-2-trial-3",
    }


def test_one_study_plans_what_was_planned_before_there_were_any(tmp_path):
    plain = load_matrix(write(tmp_path))
    once = load_matrix(write(tmp_path, studies=1, refine=0))
    assert [cell.spec.run_id for cell in plain.cells] == [cell.spec.run_id for cell in once.cells]
    assert {cell.columns["study"] for cell in parts(once)["trial"]} == {None}


def test_a_budget_by_setting_is_larger_for_an_arm_with_more_of_them(tmp_path):
    of = parts(load_matrix(write(tmp_path, trials={"per_setting": 3}, space=WIDE)))
    counts = dict.fromkeys(("adamw", "truemuon"), 0)
    for cell in of["trial"]:
        counts[cell.tried.optimizer] += 1
    assert counts == {"adamw": 3, "truemuon": 6}


WIDE = {"lr": {"log": [1e-4, 1e-1]}, "adamw_lr": {"log": [1e-4, 1e-1]}}


def test_trials_around_the_best_wait_for_the_others(tmp_path):
    matrix = load_matrix(write(tmp_path, trials=3, refine=2, space=WIDE))
    adamw = [cell for cell in parts(matrix)["trial"] if cell.tried.optimizer == "adamw"]
    assert [cell.waits for cell in adamw] == [False] * 3 + [True] * 2
    rows = [row_of(cell, 3.0 - cell.tried.trial) for cell in adamw[:3]]
    known = matrix.decided(rows)
    again = [cell for cell in parts(known)["trial"] if cell.tried.optimizer == "adamw"]
    assert not any(cell.waits for cell in again)
    best, *later = (cell.spec.optimizer.options.lr for cell in again[2:])
    assert all(1 / 2.5 < lr / best < 2.5 for lr in later)  # a quarter of three decades
    assert all(cell.spec.optimizer.base == "adamw" for cell in again)
    tuned = parts(known)["tuned"]
    assert all(cell.waits for cell in tuned)
    rows += [row_of(again[3], 1.0), row_of(again[4], -1.0)]
    chosen = [cell for cell in parts(matrix.decided(rows))["tuned"] if not cell.waits]
    assert {cell.spec.optimizer.options.lr for cell in chosen} == {later[1]}
    assert {cell.tried.trial for cell in chosen} == {5}


def test_each_study_chooses_for_its_own_seeds(tmp_path):
    matrix = load_matrix(write(tmp_path, studies=2, seeds=[101, 102], trials=3))
    trials = [cell for cell in parts(matrix)["trial"] if cell.tried.optimizer == "adamw"]
    best = {1: 2, 2: 3}
    rows = [
        row_of(cell, 1.0 if best[cell.tried.study] == cell.tried.trial else 2.0 + cell.tried.trial)
        for cell in trials
    ]
    tuned = [cell for cell in parts(matrix.decided(rows))["tuned"] if not cell.waits]
    assert {(cell.spec.seed, cell.tried.study, cell.tried.trial) for cell in tuned} == {
        (1, 1, 2),
        (2, 2, 3),
    }
    one_open = parts(matrix.decided(rows[:-1]))["tuned"]
    assert [cell.spec.seed for cell in one_open if not cell.waits] == [1]


def test_tuned_training_leaves_its_cells_in_the_matrixs_section(tmp_path):
    space = {**CONTENT["tune"]["space"], "warmup_steps": [0, 1, 2]}
    matrix = load_matrix(write(tmp_path, trials=4, space=space))
    of = parts(matrix)
    assert {cell.spec.train.warmup_steps for cell in of["trial"]} == {0, 1, 2}
    shared = {cell.columns["settings"] for cell in matrix.cells}
    assert shared == {of[""][0].spec.settings}
    warm = next(cell for cell in of["trial"] if cell.spec.train.warmup_steps == 2)
    assert json.loads(warm.columns["tuned_settings"])["warmup_steps"] == 2
    trials = [cell for cell in of["trial"] if cell.tried.optimizer == "adamw"]
    rows = [row_of(cell, 0.0 if cell is warm else 5.0 + cell.tried.trial) for cell in trials]
    if warm in trials:
        tuned = [cell for cell in parts(matrix.decided(rows))["tuned"] if not cell.waits]
        assert {cell.spec.train.warmup_steps for cell in tuned} == {2}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        ({"studies": 2}, r"tune.seeds: 1 seeds cannot be shared out equally among 2 studies"),
        ({"studies": 3, "seeds": [7, 8, 9]}, r"matrix.seed: 2 seeds cannot be shared out equally"),
        ({"refine": 1, "space": {"lr": [0.1, 0.2]}, "trials": 3}, r"tune.refine: looks around"),
        ({"trials": {"per_setting": 1}}, r"tune.trials.per_setting: 1 should be greater"),
        ({"trials": {"per_seting": 3}}, r"tune.trials.per_seting: unknown key. .*per_setting"),
        ({"trials": "many"}, r"tune.trials: 'many' is not a whole number"),
        ({"space": {"lr": [0.1], "warmup_steps": [9]}}, r"warmup_steps 9 leaves nothing of steps"),
        ({"space": {"lr": [0.1], "steps": [9]}}, r"tune.space.steps: no optimizer"),
    ],
)
def test_mistakes_are_told_with_their_remedy(tmp_path, changed, what):
    found = mistakes(write(tmp_path, **changed))
    assert any(re.search(what, each) for each in found), found


@pytest.mark.slow
def test_one_command_makes_the_stages_of_all_studies_and_goes_on_where_it_was(tmp_path):
    space = {"lr": {"log": [1e-3, 1e-1]}, "adamw_lr": [1e-2]}
    file = write(tmp_path, studies=2, seeds=[101, 102], trials=2, refine=1, space=space)
    where = ("--out", tmp_path / "out", "--runtime", "local")
    answer = bench("run", file, *where)
    assert answer.returncode == 0, answer.stderr
    stages = ["runs to make: 12", "around the best trials:", "runs to make: 4", "tuned cells:"]
    places = [answer.stdout.index(stage) for stage in stages]
    assert places == sorted(places)
    rows = read_table(tmp_path / "out" / "runs.csv")
    counts = Counter((row["part"], row["study"]) for row in rows)
    assert counts["trial", "1"] == counts["trial", "2"] == 2 * 3
    assert {row["trial"] for row in rows if row["part"] == "trial"} == {"1", "2", "3"}
    for row in rows:
        if row["part"] == "tuned":
            assert row["study"] == row["seed"]  # of seeds 1 and 2
            of_study = [
                each
                for each in rows
                if (each["part"], each["study"], each["tuned_optimizer"])
                == ("trial", row["study"], row["tuned_optimizer"])
            ]
            best = min(of_study, key=lambda each: float(each["val_loss_final"]))
            assert (row["trial"], row["arm_id"]) == (best["trial"], best["arm_id"])
    again = bench("run", file, *where)
    assert again.returncode == 0
    assert "✓" not in again.stdout
    assert read_table(tmp_path / "out" / "runs.csv") == rows
    planned = bench("plan", file, *where)
    assert "after the trials" not in planned.stdout
