"""Folders merged: copies, reruns under other code, dropped seeds, and which rows stand together."""

import json
import shutil

import pytest
from claim_builder import arm, claimed, losses
from results_builder import Results, sections_of

from bench.endings import End
from bench.report import coverage
from bench.report.family import make_family
from bench.report.merge import merge
from bench.report.page.facts import facts
from bench.report.statistics.verdict import Verdict
from bench.report.titles import titles


@pytest.fixture
def new(tmp_path):
    """Makes a results folder by name."""
    return lambda name="first": Results(tmp_path / name)


def covered(*folders: Results) -> str:
    merged = merge([folder.write() for folder in folders])
    return coverage.sentence(cell.status for cell in merged.counted)


def notes(*folders: Results) -> str:
    return " ".join(coverage.notes(merge([folder.write() for folder in folders])))


def older_copy(folder: Results, rows: int, name="older") -> Results:
    """The folder as it was when it had so many rows."""
    return Results(folder.path.with_name(name), folder.plan, folder.runs[:rows], folder.curves)


# --- copies


def test_an_older_copy_adds_nothing_and_opens_nothing(new):
    folder = new()
    for seed in (1, 2, 3, 4):
        folder.cell(seed)
    older = older_copy(folder, 3)
    for folders in ((folder, older), (older, folder)):
        assert covered(*folders) == "4 of 4 cells ok"
        [section] = sections_of(*folders)
        assert section.arms[0].attempts == {"ok": 4}
        assert section.arms[0].seeds == (1, 2, 3, 4)


def test_a_copy_from_before_a_retry_does_not_count_its_failure_twice(new):
    folder = new()
    folder.cell(1)
    folder.cell(2, "crashed", reason="ended by SIGKILL")
    folder.ended(folder.plan[1]["run_id"], attempt=2)
    for folders in ((folder, older_copy(folder, 2)), (older_copy(folder, 2), folder)):
        assert covered(*folders) == "2 of 2 cells ok"
        [section] = sections_of(*folders)
        assert section.arms[0].attempts == {"ok": 2, "crashed": 1}


def test_a_cell_that_is_open_in_two_folders_is_one(new):
    folder = new()
    folder.cell(1)
    folder.planned(seed=2)
    assert covered(folder, older_copy(folder, 1)) == "1 of 2 cells ok, 1 open"


def test_repeats_of_a_cell_are_several_runs_of_one_seed(new):
    folders = [new("a"), new("b")]
    for folder, loss in zip(folders, (2.0, 2.5), strict=True):
        folder.cell(1, val_loss_final=loss)
    [section] = sections_of(*folders)
    assert section.arms[0].spread("val_loss_final").by_seed == {1: 2.25}
    assert covered(*folders) == "2 of 2 cells ok"


# --- other code


def test_a_rerun_after_a_change_of_code_loses_no_older_row(new):
    folder = new()
    for seed in (1, 2, 3):
        folder.cell(seed)
    folder.ended(folder.plan[0]["run_id"], attempt=2, code_sha256="code2", val_loss_final=9.0)
    old, changed = sections_of(folder)
    assert (old.key.code_sha256, old.arms[0].n_seeds) == ("code1", 3)
    assert (changed.key.code_sha256, changed.arms[0].n_seeds) == ("code2", 1)
    assert changed.arms[0].seeds == (1, 2, 3)  # two of them are missing there
    assert covered(folder) == "3 of 3 cells ok"
    assert "1 cell ran again under another code, environment or machine" in notes(folder)


def test_a_failure_under_older_code_is_one_of_that_code(new):
    folder = new()
    folder.cell(1)
    folder.cell(2, "crashed", reason="exit code 1")
    folder.ended(folder.plan[1]["run_id"], attempt=2, code_sha256="code2")
    old, changed = sections_of(folder)
    assert [old.arms[0].end(seed) for seed in (1, 2)] == [End.FINISHED, End.FAILED]
    assert [changed.arms[0].end(seed) for seed in (1, 2)] == [End.MISSING, End.FINISHED]
    assert covered(folder) == "2 of 2 cells ok"  # as they ended last


# --- failures and further attempts


@pytest.mark.parametrize("status", ["diverged", "crashed", "oom", "timeout"])
def test_a_failed_seed_is_not_washed_by_another_attempt_or_folder(new, status):
    first, second = new("a"), new("b")
    arm(first, losses=losses(2.0, n=6))
    arm(first, optimizer="muon", losses=losses(1.0, 1))
    failed = first.planned(optimizer="muon", seed=6)
    first.ended(failed, status, val_loss_final="")
    arm(second, optimizer="muon", losses=[1.0], first=6)
    retried = older_copy(first, len(first.runs), "c")
    retried.ended(failed, attempt=2, val_loss_final=1.0)
    for folders in ((first, second), (second, first), (retried,), (retried, second)):
        [section] = sections_of(*folders)
        muon = next(each for each in section.arms if each.optimizer == "muon")
        assert muon.failed == {6: status}
        assert muon.n_seeds == 5
        [comparison] = make_family(section, claimed(), 1).comparisons
        assert comparison.verdict is Verdict.UNDECIDED
        assert "1 cell failed at one attempt and ended ok at another" in notes(*folders)


def test_a_failure_on_another_machine_of_the_same_environment_counts(new):
    first, second = new("a"), new("b")
    arm(first, losses=losses(2.0))
    second.cell(3, "diverged", host_id="host2")
    section = sections_of(first, second)[0]
    assert section.arms[0].failed == {3: "diverged"}
    other = new("c")
    other.cell(3, "diverged", host_id="host2", env_id="local:env2")
    assert sections_of(first, other)[0].arms[0].failed == {}


def test_a_seed_that_was_taken_out_of_the_plan_counts_still(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(1.0, 1))
    for optimizer, status in (("adamw", "ok"), ("muon", "diverged")):
        folder.ended(folder.planned(optimizer=optimizer, seed=6), status)
    kept = [row for row in folder.plan if row["seed"] != 6]
    dropped = Results(folder.path, kept, folder.runs, folder.curves)
    [section] = sections_of(dropped)
    assert [each.seeds for each in section.arms] == [(1, 2, 3, 4, 5, 6)] * 2
    assert section.arms[1].failed == {6: "diverged"}
    assert covered(dropped) == "11 of 12 cells ok, 1 diverged"
    assert "2 cells ran on seeds that the plan no longer names" in notes(dropped)


def test_trials_have_the_arm_id_of_what_they_try_and_are_no_seeds_of_it(new):
    folder = new()
    folder.cell(1)
    folder.ended(folder.planned(seed=101), part="trial", trial=1)
    folder.plan.pop()
    [section] = sections_of(folder)
    assert section.arms[0].seeds == (1,)
    assert covered(folder) == "1 of 1 cells ok"


# --- seeds that draw nothing new


def test_seeds_with_one_draw_are_one(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(1.0, 1))
    for row in folder.runs:
        if row["optimizer"] == "muon" and row["seed"] in (2, 4):
            row |= {"init_hash": "i1", "data_order_hash": "d1"}
    [section] = sections_of(folder)
    assert section.arms[1].same_draw == {2: 1, 4: 1}
    [comparison] = make_family(section, claimed(), 1).comparisons
    assert (comparison.contrast.n, comparison.repeated, comparison.n_planned) == (3, 2, 5)
    assert comparison.verdict is Verdict.TOO_FEW


def test_weights_that_no_seed_varies_are_told(new):
    folder = new()
    arm(folder, losses=losses(2.0), init_hash="i1")
    arm(folder, optimizer="muon", losses=losses(1.9, 1), init_hash="i1")
    [section] = sections_of(folder)
    assert make_family(section, claimed(), 1).comparisons[0].contrast.n == 5
    pairing = dict(facts(section, merge([folder.path]).sources))["Pairing"]
    assert "data order alone varies from seed to seed: gpt began with one draw" in pairing


# --- settings


FLOAT32 = json.dumps({"train": {"steps": 100}})
BFLOAT16 = json.dumps({"train": {"dtype": "bfloat16", "schedule": "cosine", "steps": 100}})


def with_settings(folder: Results, settings: str, **fields) -> Results:
    arm(folder, losses=losses(2.0), **fields)
    for row in folder.plan:
        row["settings"] = settings
    return folder


def test_rows_of_other_settings_are_apart_and_say_in_what(new):
    folders = (with_settings(new("a"), FLOAT32), with_settings(new("b"), BFLOAT16))
    sections = sections_of(*folders)
    assert [section.arms[0].n_seeds for section in sections] == [5, 5]
    assert [title.partition("local runtime, ")[2] for title in titles(sections)] == [
        "dtype float32, schedule constant",
        "dtype bfloat16, schedule cosine",
    ]
    told = [dict(facts(each, merge([f.path for f in folders]).sources)) for each in sections]
    assert told[0]["Settings"] == "train: steps 100"
    assert told[1]["Settings"] == "train: dtype bfloat16, schedule cosine, steps 100"


def test_an_older_folder_has_the_settings_of_its_matrix(new):
    older, newer = new("a"), new("b")
    arm(older, losses=losses(2.0))
    with_settings(newer, FLOAT32)
    for folder in (older, newer):
        folder.write()
    (older.path / "matrix.yaml").write_text("name: x\ntrain: {steps: 100}\n")
    assert len(sections_of(older, newer)) == 1
    (older.path / "matrix.yaml").write_text("name: x\ntrain: {steps: 100, clip_norm: 1}\n")
    assert len(sections_of(older, newer)) == 2
    shutil.copy(older.path / "runs.csv", older.path / "matrix.yaml")  # cannot be read
    assert [each.key.settings for each in sections_of(older, newer)] == ["", FLOAT32]


def test_a_failed_row_belongs_to_the_section_of_its_settings_alone(new):
    first, second = with_settings(new("a"), FLOAT32), with_settings(new("b"), BFLOAT16)
    second.ended(second.planned(seed=6), "diverged")
    second.plan[-1]["settings"] = BFLOAT16
    one, other = sections_of(first, second)
    assert (one.arms[0].not_ok, other.arms[0].not_ok) == ({}, {"diverged": 1})
    assert (len(one.cells), len(other.cells)) == (5, 6)
