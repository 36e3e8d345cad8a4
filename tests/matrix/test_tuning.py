"""Every arm gets the same trials; the best setting runs on the matrix's seeds, whatever happens."""

import dataclasses
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml

from bench.matrix.choice import alike, best_trial, trials_of
from bench.matrix.expansion import load_matrix
from bench.matrix.trials import arm_of
from bench.records.rows import read_table, write_table
from tests.builders.shared import ROOT, bench
from tests.builders.tuning import CONTENT, mistakes, parts, row_of, write

# --- The plan -----------------------------------------------------------------------------------


def test_every_arm_has_the_same_trials_on_the_same_seeds(tmp_path):
    matrix = load_matrix(write(tmp_path, trials=4, seeds=[101, 102, 103]))
    of = parts(matrix)
    assert len(of[""]) == len(of["tuned"]) == 4
    assert len(of["trial"]) == 2 * 4 * 3
    counts = Counter((arm_of(cell), cell.spec.seed) for cell in of["trial"])
    assert set(counts.values()) == {4}
    assert {cell.spec.seed for cell in of["trial"]} == {101, 102, 103}


def test_the_first_trial_is_the_untuned_setting_under_another_name(tmp_path):
    of = parts(load_matrix(write(tmp_path)))
    untuned = {arm_of(cell): cell.spec.arm_id for cell in of[""]}
    first = [cell for cell in of["trial"] if cell.tried and cell.tried.trial == 1]
    assert {arm_of(cell): cell.spec.arm_id for cell in first} == untuned
    assert {cell.spec.optimizer.name for cell in first} == {"adamw-trial-1", "truemuon-trial-1"}


def test_no_two_cells_share_a_name_or_an_identity(tmp_path):
    cells = load_matrix(write(tmp_path, trials=6, seeds=[7, 8])).cells
    assert len({cell.place for cell in cells}) == len(cells)
    assert len({cell.spec.run_id for cell in cells}) == len(cells)


def test_the_cells_of_the_matrix_are_as_without_tuning(tmp_path):
    with_tuning = load_matrix(write(tmp_path))
    plain = dataclasses.replace(with_tuning)
    content = yaml.safe_load((tmp_path / "tuned.yaml").read_text())
    del content["tune"]
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(content))
    plain = load_matrix(tmp_path / "plain.yaml")
    assert tuple(parts(with_tuning)[""]) == plain.cells


def test_excluded_and_included_cells_decide_which_arms_there_are(tmp_path):
    content = yaml.safe_load(write(tmp_path).read_text())
    content["exclude"] = [{"optimizer": "truemuon"}]
    content["include"] = [{"model": "nanogpt", "optimizer": "truemuon", "device": "cpu", "seed": 5}]
    (tmp_path / "tuned.yaml").write_text(yaml.safe_dump(content))
    of = parts(load_matrix(tmp_path / "tuned.yaml"))
    assert {arm_of(cell)[:2] for cell in of["trial"]} == {
        ("small", "adamw"),
        ("nanogpt", "truemuon"),
    }
    assert [cell.place for cell in of["tuned"]][-1] == ("nanogpt", "truemuon-tuned", "cpu", 5)


# --- The choice ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("figures", "best"),
    [
        ({1: [2.0], 2: [1.0], 3: [3.0]}, 2),
        ({1: [2.0, 2.0], 2: [1.0, 3.5]}, 1),  # by the mean
        ({1: [2.0, 2.0], 2: [1.0, 3.0]}, 1),  # of equal ones the first
        ({1: [9.0, 9.0], 2: [1.0, None]}, 1),  # one that diverged ranks last
        ({1: [None, None], 2: [5.0, None]}, 2),
        ({1: [None], 2: [None]}, 1),
    ],
)
def test_the_best_trial_has_the_lowest_mean_and_has_failed_least(figures, best):
    assert best_trial(figures, more_is_better=False) == best


def test_settings_are_known_once_all_trials_of_an_arm_have_ended(tmp_path):
    matrix = load_matrix(write(tmp_path))
    of = parts(matrix)
    adamw = [cell for cell in of["trial"] if arm_of(cell)[1] == "adamw"]
    rows = [row_of(adamw[0], 2.0), row_of(adamw[1], 1.0)]
    assert all(cell.waits for cell in parts(matrix.decided(rows[:1]))["tuned"])
    tuned = parts(matrix.decided(rows))["tuned"]
    known = [cell for cell in tuned if not cell.waits]
    assert [cell.place for cell in known] == [
        ("small", "adamw-tuned", "cpu", 1),
        ("small", "adamw-tuned", "cpu", 2),
    ]
    assert {cell.spec.optimizer.options for cell in known} == {adamw[1].spec.optimizer.options}
    assert {cell.spec.optimizer.base for cell in known} == {"adamw"}
    assert {arm_of(cell)[1] for cell in tuned if cell.waits} == {"truemuon"}


@pytest.mark.parametrize("status", ["interrupted", "skipped"])
def test_a_trial_that_did_not_end_is_waited_for(tmp_path, status):
    matrix = load_matrix(write(tmp_path))
    trials = parts(matrix)["trial"]
    rows = [row_of(cell, 1.0) for cell in trials[1:]] + [row_of(trials[0], status=status)]
    waiting = [cell for cell in parts(matrix.decided(rows))["tuned"] if cell.waits]
    assert {arm_of(cell) for cell in waiting} == {arm_of(trials[0])}


@pytest.mark.parametrize("status", ["diverged", "oom", "timeout", "crashed"])
def test_a_trial_that_failed_is_not_chosen(tmp_path, status):
    matrix = load_matrix(write(tmp_path))
    rows = [
        row_of(cell, 5.0) if cell.tried.trial == 2 else row_of(cell, 1.0, status)
        for cell in parts(matrix)["trial"]
    ]
    assert {cell.tried.trial for cell in parts(matrix.decided(rows))["tuned"]} == {2}


@pytest.mark.parametrize(
    ("losses", "same", "chosen"),
    [
        ([1.0, 1.0], [[1, 2]], False),
        ([1.0, 2.0], [], True),
    ],
)
def test_trials_that_ended_alike_are_one_and_choose_nothing(tmp_path, losses, same, chosen):
    matrix = load_matrix(write(tmp_path))
    trials = [cell for cell in parts(matrix)["trial"] if arm_of(cell)[1] == "adamw"]
    rows = [
        row_of(cell, loss) | {"train_loss_final": "0.5"}
        for cell, loss in zip(trials, losses, strict=True)
    ]
    assert list(alike(matrix.cells, rows).values()) == ([same] if same else [])
    tuned = [cell for cell in matrix.decided(rows).cells if cell.part == "tuned"]
    assert [cell.waits for cell in tuned if arm_of(cell)[1] == "adamw"] == [not chosen] * 2


@pytest.mark.slow
def test_a_run_whose_trials_are_one_says_so_and_tunes_nothing(tmp_path):
    groups = {"hidden": {"lr": 0.002}, "other": {"lr": 0.001}}
    mine = {"class": "torch.optim.AdamW", "lr": 0.001, "groups": groups}
    file = write(
        tmp_path,
        optimizers={"mine": mine},
        matrix=CONTENT["matrix"] | {"optimizer": ["mine"], "seed": [1]},
        space={"lr": {"log": [1e-4, 1e-1]}},
    )
    answer = bench("run", file, "--runtime", "local", "--out", tmp_path / "out", "--report")
    assert answer.returncode == 1
    assert "small + mine: trials 1, 2 ended with equal losses to the last digit." in answer.stdout
    assert "nothing was tuned, and its tuned cells do not run." in answer.stdout
    assert [row["part"] for row in read_table(tmp_path / "out" / "runs.csv")] == [
        "",
        "trial",
        "trial",
    ]
    page = (tmp_path / "out" / "report" / "report.md").read_text()
    assert "2 settings, 1 of them different" in page
    assert "none: all are one" in page
    check = bench("check", file, "--runtime", "local")
    assert check.returncode == 1
    assert "in trials 1, 2 the optimizers hold the same settings" in check.stdout


def test_a_trial_of_another_folder_that_was_run_until_it_finished_has_failed(tmp_path):
    matrix = load_matrix(write(tmp_path))
    cells = parts(matrix)["trial"]
    rows = [
        row_of(cell, 5.0 - cell.tried.trial, status) | {"attempt": attempt}
        for attempt, status in ((1, "diverged"), (2, "ok"))
        for cell in cells
        if status == "ok" or cell.tried.trial == 2
    ]
    table = [row | {"part": "trial", "code_sha256": "code1", "host_id": "h"} for row in rows]
    write_table(tmp_path / "runs.csv", table[0], table)
    found = trials_of(tmp_path, {"code1"})
    assert len(found) == len(cells)
    assert {cell.tried.trial for cell in parts(matrix.decided(found))["tuned"]} == {1}
    assert trials_of(tmp_path, {"code2"}) == []


def test_where_the_untuned_setting_is_best_its_own_cells_are_the_tuned_ones(tmp_path):
    matrix = load_matrix(write(tmp_path))
    rows = [row_of(cell, float(cell.tried.trial)) for cell in parts(matrix)["trial"]]
    of = parts(matrix.decided(rows))
    assert [cell.spec.run_id for cell in of["tuned"]] == [cell.spec.run_id for cell in of[""]]
    assert {cell.spec.optimizer.name for cell in of["tuned"]} == {"adamw-tuned", "truemuon-tuned"}


# --- Mistakes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"seeds": [2]}, r"tune.seeds\[0\]: 2 is a seed of the matrix: .* Give another\."),
        ({"seeds": [7, 7]}, r"tune.seeds\[1\]: 7 is listed twice\. Remove one\."),
        ({"trials": 1}, r"tune.trials: 1 should be greater than or equal to 2"),
        ({"metric": "test_loss_final"}, r"tune.metric: .* Allowed: val_loss_best, val_loss_final"),
        ({"sampler": "tpe"}, r"tune.sampler: 'tpe' is not allowed\. .*grid, quasi-random"),
        ({"space": {}}, r"tune.space: "),
        ({"space": {"lr": []}}, r"tune.space.lr: is empty"),
        ({"space": {"lr": 0.1}}, r"tune.space.lr: 0.1 is neither a list of values nor a range"),
        (
            {"space": {"lr": {"log": [0.1]}}},
            r"tune.space.lr.log: has too few: 1\. Give at least 2\.",
        ),
        ({"space": {"lr": {"log": [0, 1]}}}, r"tune.space.lr.log\[0\]: 0 should be greater than 0"),
        ({"space": {"lr": {"log": [1e-1, 1e-4]}}}, r"lr: runs from 0.1 to 0.0001\. Give the lower"),
        ({"space": {"lr": {"log": [0.1, 1], "at": 3}}}, r"lr.at: unknown key\. Allowed: log\."),
        ({"space": {"rate": [0.1]}}, r"tune.space.rate: no optimizer .* Allowed: adamw_lr, .*lr"),
        (
            {"space": {"lr": [0.0, 0.1]}},
            r"tune.space.lr\[0\]: not for adamw: 0.0 should be greater than",
        ),
        ({"space": {"lr": ["3_0e-5"]}}, r"lr\[0\]: '3_0e-5' is text\. Write 30e-5\."),
        ({"space": {"lr": ["0,001"]}}, r"lr\[0\]: '0,001' is text\. Write 0\.001, or put"),
        ({"space": {"lr": ["high"]}}, r"lr\[0\]: not for adamw: 'high' is not a number\."),
        ({"space": {"ns_steps": [2, 4]}}, r"tune.space: names no option of 'adamw', .* It has: lr"),
        (
            {"space": {"lr": [0.1], "ns_steps": {"linear": [1, 9]}}},
            r"ns_steps: is a range; ns_steps of truemuon wants values\. List them\.",
        ),
        (
            {"space": {"lr": [0.1]}, "trials": 3},
            r"trials: asks for 3; for adamw the space holds 2 settings",
        ),
        (
            {"space": {"lr": [0.1, 0.2]}, "trials": 2, "sampler": "grid"},
            r"trials: asks for 2; for adamw the space is a grid of 3 settings",
        ),
        (
            {
                "matrix": {**CONTENT["matrix"], "optimizer": ["sgd"]},
                "space": {"momentum": [0.0], "nesterov": [True]},
            },
            r"trials: asks for 2; for sgd nesterov needs a momentum: give one above 0",
        ),
        ({"sampler": "grid"}, r"tune.space.lr: is a range, and a grid has values\. List them\."),
        (
            {
                "optimizers": {"adamw-tuned": {"base": "adamw", "lr": 0.1}},
                "matrix": {**CONTENT["matrix"], "optimizer": ["adamw", "adamw-tuned"]},
            },
            r"'adamw-tuned' is what tuning calls cells of 'adamw'\. Choose another name\.",
        ),
        (
            {
                "optimizers": {"low": {"base": "adamw", "lr": 3.0e-4}},
                "matrix": {**CONTENT["matrix"], "optimizer": ["adamw", "low"]},
                "space": {"lr": {"log": [1e-4, 1e-1]}},
            },
            r"tune.space: .*-trial-2 on cpu, seed 101 is planned twice, .*: leave one",
        ),
        (
            {
                "claim": {
                    "baseline": {"model": "small", "optimizer": "adamw"},
                    "metric": "test_loss_final",
                    "margin": 0.1,
                }
            },
            r"claim.metric: test_loss_final needs a test split\. Give data.split three shares",
        ),
        (
            {
                "claim": {
                    "baseline": {"model": "small", "optimizer": "adamw"},
                    "metric": "val_loss_final",
                    "margin": 0.1,
                },
                "data": {"split": [0.8, 0.1, 0.1]},
            },
            r"claim.metric: val_loss_final is measured on the split that tuning chooses by",
        ),
        ({"data": {"split": [0.8, 0.1]}}, r"data.split: sums to 0.9\. Give shares that sum to 1"),
        ({"data": {"split": [1.0]}}, r"data.split"),
        ({"data": {"split": [0.8, 0.2, 0.0]}}, r"data.split\[2\]: 0.0 should be greater than 0"),
    ],
)
def test_a_mistake_says_where_it_is_and_what_to_do(tmp_path, changed, said):
    found = mistakes(write(tmp_path, **changed))
    assert any(re.search(said, one) for one in found), found
    assert all(int(one.partition(":")[0]) > 0 for one in found)


# --- From end to end ----------------------------------------------------------------------------


@pytest.mark.slow
def test_trials_run_the_best_is_chosen_and_runs_on_the_seeds(tmp_path):
    file = write(tmp_path, data={"split": [0.8, 0.1, 0.1]}, trials=3)
    out = tmp_path / "out"
    planned = bench("plan", file, "--out", out, "--runtime", "local")
    assert planned.stdout.count("after the trials") == 4
    answer = bench("run", file, "--out", out, "--runtime", "local")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    rows = read_table(out / "runs.csv")
    assert len(rows) == len({row["run_id"] for row in rows})
    trials = [row for row in rows if row["part"] == "trial"]
    assert Counter(row["tuned_optimizer"] for row in trials) == {"adamw": 3, "truemuon": 3}
    for name in ("adamw", "truemuon"):
        mine = [row for row in trials if row["tuned_optimizer"] == name]
        best = min(mine, key=lambda row: float(row["val_loss_final"]))
        tuned = [row for row in rows if row["optimizer"] == f"{name}-tuned"]
        if best["trial"] == "1":
            assert tuned == []
            continue
        assert {(row["seed"], row["trial"], row["tuned_settings"]) for row in tuned} == {
            (seed, best["trial"], best["tuned_settings"]) for seed in ("1", "2")
        }
        assert {row["arm_id"] for row in tuned} == {best["arm_id"]}
    assert all(float(row["test_loss_final"]) > 0 for row in rows)
    plan = read_table(out / "plan.csv")
    assert {row["run_id"] for row in plan} == {row["run_id"] for row in rows}
    assert {row["selected"] for row in plan} == {"true"}
    again = bench("run", file, "--out", out, "--runtime", "local")
    assert again.returncode == 0
    assert read_table(out / "runs.csv") == rows
    assert "after the trials" not in bench("plan", file, "--out", out, "--runtime", "local").stdout


@pytest.mark.slow
def test_tuning_goes_on_where_it_was_interrupted(tmp_path):
    file = write(tmp_path, trials=2)
    out, whole = tmp_path / "out", tmp_path / "whole"
    command = [sys.executable, "-m", "bench", "run", str(file), "--runtime", "local"]
    with subprocess.Popen([*command, "--out", str(out)], cwd=ROOT, stdout=subprocess.PIPE) as run:
        while not any(row["part"] == "trial" for row in read_table(out / "runs.csv")):
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        run.communicate(timeout=120)
    assert run.returncode == 130
    assert not any(row["part"] == "tuned" for row in read_table(out / "runs.csv"))
    waiting = [row for row in read_table(out / "plan.csv") if row["part"] == "tuned"]
    assert {(row["trial"], row["selected"]) for row in waiting} == {("", "true")}
    assert bench("run", file, "--out", out, "--runtime", "local").returncode == 0
    assert bench("run", file, "--out", whole, "--runtime", "local").returncode == 0
    assert losses(out) == losses(whole)


def losses(folder: Path) -> dict[tuple[str, str], str]:
    rows = read_table(folder / "runs.csv")
    return {
        (row["optimizer"], row["seed"]): row["val_loss_final"]
        for row in rows
        if row["status"] == "ok"
    }


@pytest.mark.slow
def test_a_part_of_a_run_leaves_tuned_cells_waiting_and_says_so(tmp_path):
    file, out = write(tmp_path), tmp_path / "out"
    answer = bench("run", file, "--out", out, "--runtime", "local", "--only", "seed=1")
    assert answer.returncode == 1
    assert "2 tuned cells wait for trials that have not ended: small + adamw, small + truemuon" in (
        answer.stdout
    )
    assert len(read_table(out / "runs.csv")) == 2


@pytest.mark.slow
def test_shards_know_each_others_trials(tmp_path):
    file, one, other = write(tmp_path), tmp_path / "one", tmp_path / "other"
    command = ("run", file, "--runtime", "local")
    assert bench(*command, "--out", one, "--shard", "1/2").returncode == 0  # no tuned cell in it
    alone = bench(*command, "--out", other, "--shard", "2/2")
    assert "4 tuned cells wait for trials that have not ended" in alone.stdout
    together = bench(*command, "--out", other, "--shard", "2/2", "--trials-from", one)
    assert together.returncode == 0, together.stdout + together.stderr
    assert "wait" not in together.stdout
    tuned = [row for row in read_table(other / "plan.csv") if row["part"] == "tuned"]
    assert all(row["trial"] and row["selected"] == "true" for row in tuned)
    nowhere = bench(*command, "--out", one, "--trials-from", tmp_path / "none")
    assert nowhere.returncode == 2
    assert "no results folder" in nowhere.stderr
