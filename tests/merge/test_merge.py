"""Folders merged: copies, reruns under other code, dropped seeds, and which rows stand together."""

import json
import shutil

import pytest

from bench.merge import coverage
from bench.merge.merging import merge
from bench.report.family import make_family
from bench.report.page.facts import facts
from bench.report.page.headline import rests_on
from bench.report.titles import titles
from bench.statistics.ends import End
from bench.statistics.verdict import Verdict
from tests.builders.claims import arm, claimed, losses
from tests.builders.results import LATER, Results, sections_of


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
        assert covered(*folders) == "4 of 4 runs ok"
        [section] = sections_of(*folders)
        assert section.arms[0].attempts == {"ok": 4}
        assert section.arms[0].seeds == (1, 2, 3, 4)


def test_a_copy_from_before_a_retry_does_not_count_its_failure_twice(new):
    folder = new()
    folder.cell(1)
    folder.cell(2, "crashed", reason="ended by SIGKILL")
    folder.ended(folder.plan[1]["run_id"], attempt=2)
    for folders in ((folder, older_copy(folder, 2)), (older_copy(folder, 2), folder)):
        assert covered(*folders) == "2 of 2 runs ok"
        [section] = sections_of(*folders)
        assert section.arms[0].attempts == {"ok": 2, "crashed": 1}


def test_a_cell_that_is_open_in_two_folders_is_one(new):
    folder = new()
    folder.cell(1)
    folder.planned(seed=2)
    assert covered(folder, older_copy(folder, 1)) == "1 of 2 runs ok, 1 open"


@pytest.mark.parametrize("turn", [1, -1])
def test_a_seed_that_was_run_again_after_it_had_finished_keeps_its_figure(new, turn):
    """In another folder, or in a copy that shares its first, interrupted attempt."""
    alone, again = new("a"), new("b")
    alone.cell(1, val_loss_final=2.0)
    again.cell(1, val_loss_final=1.0, **LATER)
    copied, copy = new("c"), new("d")
    for folder, figures in ((copied, {"val_loss_final": 2.0}), (copy, {"val_loss_final": 1.0})):
        folder.cell(1, "interrupted", started_at="2025-01-01T00:00:00+00:00")
        folder.ended(
            folder.plan[0]["run_id"], attempt=2, **figures | (LATER if folder is copy else {})
        )
    for folders in ([alone, again], [copied, copy]):
        [section] = sections_of(*folders[::turn])
        assert section.arms[0].spread("val_loss_final").by_seed == {1: 2.0}
    assert covered(alone, again) == "2 of 2 runs ok"
    assert covered(copied, copy) == "1 of 1 runs ok"


@pytest.mark.parametrize("turn", [1, -1])
def test_the_curve_is_that_of_the_attempt_that_counts_wherever_it_lies(new, turn):
    first, second = new("a"), new("b")
    for folder in (first, second):
        folder.cell(1, "interrupted", started_at="2025-01-01T00:00:00+00:00")
    run_id = second.plan[0]["run_id"]
    second.ended(run_id, attempt=2)
    second.curve(run_id, [(0, 0.0, 4.0)], attempt=2)
    [cell] = merge([folder.write() for folder in [first, second][::turn]]).cells
    assert cell.curve.val_loss.tolist() == [4.0]


def test_rows_whose_start_is_not_known_are_none_alike(new):
    first, second = new("a"), new("b")
    arm(first, losses=losses(2.0))
    for folder, status in ((first, "skipped"), (second, "diverged")):
        run_id = first.plan[0]["run_id"] if folder is first else folder.planned(seed=1)
        folder.ended(run_id, status, attempt=2, started_at="")
    second.ended(second.plan[0]["run_id"], "interrupted", started_at=first.runs[0]["started_at"])
    for folders in ((first, second), (second, first)):
        assert sections_of(*folders)[0].arms[0].failed == {1: "diverged"}


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
    assert covered(folder) == "3 of 3 runs ok"
    assert "1 run got another attempt under another code, environment or machine" in notes(folder)


def test_a_failure_under_older_code_is_one_of_that_code(new):
    folder = new()
    folder.cell(1)
    folder.cell(2, "crashed", reason="exit code 1")
    folder.ended(folder.plan[1]["run_id"], attempt=2, code_sha256="code2")
    old, changed = sections_of(folder)
    assert [old.arms[0].end(seed) for seed in (1, 2)] == [End.FINISHED, End.FAILED]
    assert [changed.arms[0].end(seed) for seed in (1, 2)] == [End.MISSING, End.FINISHED]
    assert covered(folder) == "2 of 2 runs ok"  # as they ended last


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
        assert "1 run failed at one attempt and ended ok at another" in notes(*folders)


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
    assert covered(dropped) == "11 of 12 runs ok, 1 diverged"
    assert "2 runs had seeds that the plan no longer names" in notes(dropped)


def test_trials_have_the_arm_id_of_what_they_try_and_are_no_seeds_of_it(new):
    folder = new()
    folder.cell(1)
    folder.ended(folder.planned(seed=101), part="trial", trial=1)
    folder.plan.pop()
    [section] = sections_of(folder)
    assert section.arms[0].seeds == (1,)
    assert covered(folder) == "1 of 1 runs ok"


def test_a_dropped_seed_of_a_cell_with_two_names_is_one_of_both(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    folder.ended(folder.planned(seed=6), "diverged")
    twins = [row | {"part": "tuned", "optimizer": "adamw-tuned"} for row in folder.plan]
    folder.plan = [row for row in [*folder.plan, *twins] if row["seed"] != 6]
    [section] = sections_of(folder)
    assert [each.optimizer for each in section.arms] == ["adamw", "adamw-tuned"]
    assert [each.failed for each in section.arms] == [{6: "diverged"}] * 2
    assert [each.seeds for each in section.arms] == [(1, 2, 3, 4, 5, 6)] * 2


def test_what_settings_were_chosen_on_is_not_judged_on(new):
    folder = new()
    arm(folder, losses=losses(2.0))
    arm(folder, optimizer="muon", losses=losses(1.0, 1), part="trial", trial=4)
    assert covered(folder) == "5 of 10 runs ok, 5 open"


def test_a_trial_of_another_folder_does_not_end_an_open_cell(new):
    first, second = new("a"), new("b")
    first.cell(1)
    first.planned(seed=2)
    second.cell(2, part="trial", trial=1)
    second.plan[0] |= {"part": "trial", "trial": 1}
    assert covered(first, second) == "2 of 3 runs ok, 1 open"


def test_arms_that_ran_and_were_dropped_stay_in_the_family(new):
    folder = new()
    for optimizer in ("adamw", "muon", "lion", "sgd"):
        arm(folder, optimizer=optimizer, losses=losses(2.0, 1 + len(optimizer)))
    [section] = sections_of(folder)
    whole = make_family(section, claimed(), 1)
    folder.plan = [row for row in folder.plan if row["optimizer"] in ("adamw", "muon")]
    [section] = sections_of(folder)
    assert make_family(section, claimed(), 1).alpha == whole.alpha
    for row in folder.runs:
        row["settings"] = FLOAT32 if row["optimizer"] == "lion" else ""  # another matrix's
    [section] = sections_of(folder)
    assert section.dropped_arms == 1


# --- seeds that ran otherwise


def chosen(folder: Results, *, extra: bool, **other) -> Results:
    """Eight seeds of two arms, of which some ran again in other circumstances, and perhaps all."""
    arm(folder, losses=losses(2.0, n=6))
    arm(folder, optimizer="muon", losses=losses(1.9, 1, n=6))
    for row in list(folder.runs):
        if row["seed"] != 6 or extra:
            folder.runs.append(row | {"attempt": 2, **LATER, **other})
    return folder


@pytest.mark.parametrize("other", [{"code_sha256": "code2"}, {"host_id": "host2"}])
def test_seeds_that_were_not_run_again_with_the_others_were_left_out_by_choice(new, other):
    folder = chosen(new("some"), extra=False, **other)
    first, again = sections_of(folder)
    assert make_family(first, claimed(), 1).comparisons[0].verdict is Verdict.BETTER
    [comparison] = make_family(again, claimed(), 1).comparisons
    assert comparison.verdict is Verdict.UNDECIDED
    assert comparison.ends.count[End.OTHERWISE, End.OTHERWISE] == 1
    assert "1 run under other code or on another machine" in rests_on(comparison)
    first, again = sections_of(chosen(new("all"), extra=True, **other))
    assert make_family(again, claimed(), 1).comparisons[0].verdict is Verdict.BETTER


def test_halves_of_a_matrix_on_two_machines_leave_nothing_out(new):
    folder = new()
    arm(folder, losses=losses(2.0, n=6) + losses(2.0, n=6))
    arm(folder, optimizer="muon", losses=losses(1.9, 1, n=6) + losses(1.9, 1, n=6))
    for row in folder.runs:
        row["host_id"] = "host1" if row["seed"] <= 6 else "host2"
    for section in sections_of(folder):
        assert make_family(section, claimed(), 1).comparisons[0].verdict is Verdict.BETTER


def test_two_folders_with_other_arms_on_other_seeds_keep_their_verdicts(new):
    first, second = new("a"), new("b")
    arm(first, losses=losses(2.0))
    arm(first, optimizer="muon", losses=losses(1.9, 1))
    arm(second, losses=losses(2.0), first=11)
    arm(second, optimizer="sgd", losses=losses(1.9, 1), first=11)
    [section] = sections_of(first, second)
    found = [each.verdict for each in make_family(section, claimed(), 1).comparisons]
    assert found == [Verdict.BETTER] * 2


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
    next(r for r in folder.runs if (r["optimizer"], r["seed"]) == ("adamw", 2))["status"] = "oom"
    [section] = sections_of(folder)  # where one arm failed, nothing is left out
    [comparison] = make_family(section, claimed(), 1).comparisons
    assert (comparison.repeated, comparison.ends.failed_base) == (1, 1)


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
