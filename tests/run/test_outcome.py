"""How a cell ended, told from its exit and its files."""

import json
import math
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.launch.job import Exit, Job
from bench.matrix.expansion import load_matrix
from bench.records.corpora import find_corpus
from bench.records.endings import is_machines_fault
from bench.run.attempt import judge


@pytest.fixture
def job(tiny_matrix: Path, tmp_path: Path) -> Job:
    matrix = load_matrix(tiny_matrix)
    spec = matrix.with_corpus(find_corpus(matrix.corpus).ref).cells[0].spec
    limits = Limits(timeout_s=60.0, memory_gib=2.0, cpus=1)
    return Job(spec, limits, CellFiles(tmp_path), tmp_path / "text.txt", (0,), ())


def ended(**how: Any) -> Exit:
    last = {"stage": "train", "step": 7}
    return Exit(
        **{"ended_by": "itself", "code": 0, "launched": 10.0, "exited": 20.0} | how, last_event=last
    )


def leave(job: Job, **changes: Any) -> None:
    result = {
        "schema_version": SCHEMA_VERSION,
        "run_id": job.spec.run_id,
        "code_sha256": code_sha256(),
        "status": "ok",
        "reason": None,
        "stage": None,
        "started": 11.0,
        "finished": 18.5,
        "spans": [["train", 12.0, 17.0]],
        "context_window": None,
        "row": {"import_time_s": 2.0, "train_time_s": 5.0, "val_loss_final": 1.5, "steps": 9},
    }
    job.files.result.write_text(json.dumps(result | changes))


def test_a_good_end_accounts_for_all_of_the_wall_time(job: Job) -> None:
    leave(job)
    row = judge(job, ended())[0]
    assert (row["status"], row["reason"], row["stage"]) == ("ok", None, None)
    assert row["val_loss_final"] == 1.5
    times = ("wall", "startup", "teardown", "unaccounted")
    assert [row[f"{name}_time_s"] for name in times] == [10.0, 1.0, 1.5, 0.5]


@pytest.mark.parametrize(
    ("how", "status", "words"),
    [
        ({"ended_by": "timeout", "code": -9, "stopped_why": "time is up"}, "timeout", "time is up"),
        ({"ended_by": "interrupt", "stopped_why": "stopped by SIGINT"}, "interrupted", "SIGINT"),
        ({"oom_killed": True, "code": 137}, "oom_killed", "limits.memory_gib = 2"),
        ({"code": -signal.SIGSEGV}, "crashed", "ended by SIGSEGV; it left no result"),
        ({"code": 128 + signal.SIGSEGV}, "crashed", "ended by SIGSEGV"),
        ({"code": 3}, "crashed", "exit code 3; it left no result"),
        ({"code": 0}, "crashed", "exit code 0; it left no result"),
    ],
)
def test_an_end_without_a_result(job: Job, how: dict[str, Any], status: str, words: str) -> None:
    row = judge(job, ended(**how))[0]
    assert row["status"] == status
    assert words in row["reason"]
    assert row["stage"] == "train at step 7"
    assert row["wall_time_s"] == 10.0
    assert "unaccounted_time_s" not in row


def test_a_crash_quotes_the_end_of_its_log(job: Job) -> None:
    job.files.log.write_text("first\n" + "x" * 1000 + "\nValueError: the last line\n")
    reason = judge(job, ended(code=1))[0]["reason"]
    assert reason.endswith("ValueError: the last line")
    assert "first" not in reason


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda job: job.files.result.write_text('{"run_id": "tr'), "cannot be read"),
        (lambda job: job.files.result.write_text("[]"), "another schema_version"),
        (lambda job: leave(job, run_id="0" * 12), "another run_id"),
        (lambda job: leave(job, code_sha256="0" * 64), "did the code change"),
        (
            lambda job: leave(job, row={"val_loss_final": [1.5]}),
            "wrong val_loss_final; the cell says: '[1.5]'",
        ),
        (
            lambda job: leave(job, row={"val_loss_final": True}),
            "wrong val_loss_final; the cell says: 'True'",
        ),
        (lambda job: leave(job, row={"val_loss_final": math.nan}), "NaN is no number"),
        (lambda job: leave(job, row={"init_hash": 7}), "wrong init_hash; the cell says: '7'"),
        (lambda job: leave(job, row={"val_loss_final": 1.5}), "says ok and lacks one of"),
        (lambda job: leave(job, spans=None), "spans of its phases"),
        (lambda job: leave(job, spans=[["lunch", 1.0, 2.0]]), "spans of its phases"),
        (lambda job: leave(job, context_window=[1.0]), "context_window"),
        (lambda job: leave(job, status="crashed"), "gives no reason"),
        (lambda job: job.files.result.write_text("[" * 100_000), "cannot be read"),
        (lambda job: leave(job, row={"surprise": 1}), "columns that runs.csv does not know"),
        (lambda job: leave(job, status="fine"), "lacks its status or its times"),
        (lambda job: leave(job, started=None), "lacks its status or its times"),
    ],
)
def test_a_result_that_is_not_ours_is_a_crash(
    job: Job, spoil: Callable[[Job], object], words: str
) -> None:
    spoil(job)
    row = judge(job, ended())[0]
    assert row["status"] == "crashed"
    assert words in row["reason"]


def test_a_link_that_the_worker_left_is_not_followed(job: Job, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text('{"secret": 1}')
    job.files.result.symlink_to(secret)
    job.files.log.symlink_to(secret)
    assert judge(job, ended(code=1))[0]["reason"] == "exit code 1; it left no result"


def test_success_with_a_bad_exit_code_is_a_crash(job: Job) -> None:
    leave(job)
    row = judge(job, ended(code=-signal.SIGABRT))[0]
    assert (row["status"], row["reason"]) == (
        "crashed",
        "ended by SIGABRT after it had reported success",
    )


def test_a_diverged_cell_keeps_what_it_measured(job: Job) -> None:
    leave(job, status="diverged", reason="not finite at step 3", stage="train")
    row = judge(job, ended())[0]
    assert (row["status"], row["stage"], row["train_time_s"]) == ("diverged", "train", 5.0)


def test_the_spans_of_training_are_handed_on(job: Job) -> None:
    leave(job, context_window=[11.5, 11.75])
    _, phases = judge(job, ended())
    assert (phases.train, phases.context) == (((12.0, 17.0),), (11.5, 11.75))


@pytest.mark.parametrize("stamps", [{"started": 9.0}, {"finished": 20.5}])
def test_stamps_of_another_clock_place_nothing(job: Job, stamps: dict[str, float]) -> None:
    """An engine in a virtual machine: its stamps do not lie between launch and exit."""
    leave(job, **stamps)
    columns, phases = judge(job, ended())
    assert columns["wall_time_s"] == 10.0
    assert columns["train_time_s"] == 5.0
    assert not {"startup_time_s", "teardown_time_s", "unaccounted_time_s"} & set(columns)
    assert phases.train == ()


@pytest.mark.parametrize(
    ("how", "left", "fault"),
    [
        ({"code": -signal.SIGKILL}, {}, True),
        ({"code": 128 + signal.SIGBUS}, {}, False),
        ({"code": -signal.SIGSEGV}, {}, False),
        # What a cell says is no evidence.
        ({"code": 1}, {"status": "crashed", "reason": "RuntimeError: GPU is lost"}, False),
        ({"code": 1}, {"status": "crashed", "reason": "OSError: busy or unavailable"}, False),
        ({"code": 1}, {"status": "crashed", "reason": "OSError: No space left on device"}, False),
        ({"code": 1}, {"status": "crashed", "reason": "ended by SIGKILL: a class's name"}, False),
        ({"code": 1}, {"status": "interrupted", "reason": "the GPU failed: Xid 79"}, False),
        ({"code": 1}, {"status": "interrupted", "reason": "GPU is lost"}, False),
        ({"code": 0}, {"row": {"n_params": "GPU is lost"}}, False),
        ({"code": 1}, {"status": "crashed", "reason": "ValueError: no"}, False),
        ({"code": 1}, {"status": "oom", "reason": "CUDA out of memory"}, False),
        ({"code": 0}, {"status": "diverged", "reason": "not finite"}, False),
        ({"code": 3}, {}, False),
        ({"code": 137, "oom_killed": True}, {}, False),
        ({"code": -9, "ended_by": "timeout"}, {}, False),
        ({"code": -9, "ended_by": "interrupt"}, {}, False),
    ],
)
def test_a_fault_of_the_machine_is_told_from_one_of_the_cell(
    job: Job, how: dict[str, Any], left: dict[str, Any], fault: bool
) -> None:
    if left:
        leave(job, **left)
    row = judge(job, ended(**how))[0]
    assert is_machines_fault(row["status"], row["reason"] or "") == fault


def test_a_cell_without_room_on_its_disk_is_believed_where_that_is_seen(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.run.attempt.FULL", 2**80)
    leave(job, status="crashed", reason="OSError: [Errno 28] No space left on device")
    row = judge(job, ended(code=1))[0]
    assert is_machines_fault(row["status"], row["reason"])


@pytest.mark.parametrize("reason", ["the GPU failed: Xid 79", "I would rather run again"])
def test_a_cell_says_alone_of_sigterm_that_it_was_interrupted(job: Job, reason: str) -> None:
    leave(job, status="interrupted", reason=reason)
    assert judge(job, ended(code=1))[0]["status"] == "crashed"
    leave(job, status="interrupted", reason="stopped by SIGTERM")
    assert judge(job, ended(code=1))[0]["status"] == "interrupted"


def test_sigterm_from_outside_is_an_interruption(job: Job) -> None:
    row = judge(job, ended(code=128 + signal.SIGTERM))[0]
    assert (row["status"], row["reason"]) == ("interrupted", "ended by SIGTERM")


def test_a_whole_result_counts_also_where_the_kernel_took_a_helper(job: Job) -> None:
    leave(job)
    assert judge(job, ended(oom_killed=True))[0]["status"] == "ok"
    assert judge(job, ended(oom_killed=True, code=137))[0]["status"] == "oom_killed"
