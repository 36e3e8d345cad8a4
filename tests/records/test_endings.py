"""How a cell ended: the one row of several attempts, and what a failure is worth."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.records.columns import STATUSES
from bench.records.endings import by_circumstances, end_of, ending
from bench.statistics.ends import End

STEADY = settings(deadline=None, derandomize=True, database=None)


def row(status, reason="", **fields):
    return {"status": status, "reason": reason, **{k: str(v) for k, v in fields.items()}}


def told(*attempts) -> int | None:
    """Which of the attempts tells how the cell ended."""
    rows = [row(each) if isinstance(each, str) else each for each in attempts]
    found = ending(rows)
    return None if found is None else next(i for i, each in enumerate(rows) if each is found)


LOST = row("crashed", "ended by SIGKILL; it left no result")


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ([], None),
        (["interrupted"], 0),
        (["interrupted", "skipped"], 1),
        (["ok", "skipped"], 0),
        (["interrupted", "ok", "interrupted"], 1),
        (["ok", "ok"], 0),  # the second was run by choice
        (["crashed", "interrupted"], 0),
        (["crashed", "interrupted", "ok", "interrupted"], 0),
        (["diverged", "ok"], 0),
        (["ok", "diverged", "ok"], 1),
        (["diverged", "timeout", "ok"], 0),
        (["oom", "ok"], 0),
        (["timeout", "ok", "timeout"], 2),
        ([LOST, "ok"], 1),
        ([LOST, "interrupted"], 0),
        (["ok", LOST], 0),
        ([LOST, "crashed", "ok"], 1),
    ],
)
def test_a_failure_stays_and_what_is_none_leaves_a_cell_as_it_was(attempts, expected):
    assert told(*attempts) == expected


@pytest.mark.parametrize("status", ["oom", "oom_killed"])
def test_a_raised_limit_of_memory_makes_good_what_ran_out_of_it(status):
    failed = row(status, memory_limit_gib=4)
    assert told(failed, row("ok", memory_limit_gib=8)) == 1
    assert told(failed, row("ok", memory_limit_gib=4)) == 0
    assert told(failed, row("ok")) == 0  # an older row does not tell
    assert told(row(status), row("ok", memory_limit_gib=8)) == 0
    assert told(row(status, memory_limit_gib=9), failed, row("ok", memory_limit_gib=8)) == 0
    assert told(failed, row("ok", memory_limit_gib=8), row(status, memory_limit_gib=8)) == 2


def test_a_raised_limit_of_time_makes_good_what_ran_out_of_it():
    limits = {"timeout_limit_s": 60, "heartbeat_limit_s": 30, "memory_limit_gib": 4}
    slow = row("timeout", "longer than limits.timeout_s = 60 seconds", **limits)
    hung = row("timeout", "it hung: nothing heard for limits.heartbeat_s = 30 seconds", **limits)

    def ok(timeout, heartbeat):
        return row("ok", timeout_limit_s=timeout, heartbeat_limit_s=heartbeat, memory_limit_gib=8)

    assert told(slow, ok(90, 30)) == told(hung, ok(60, 60)) == 1
    assert told(slow, ok(60, 60)) == told(hung, ok(90, 30)) == 0


def test_no_limit_of_ours_makes_good_what_ran_out_of_a_gpus_memory():
    failed = row("oom", device="cuda", memory_limit_gib=4)
    assert told(failed, row("ok", device="cuda", memory_limit_gib=8)) == 0


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("ok", "", End.FINISHED),
        ("diverged", "not finite", End.DIVERGED),
        ("oom", "", End.FAILED),
        ("oom_killed", "", End.FAILED),
        ("timeout", "", End.FAILED),
        ("crashed", "exit code 1; it left no result", End.FAILED),
        ("crashed", "ended by SIGSEGV; it left no result", End.FAILED),
        ("crashed", "ended by SIGABRT after it had reported success", End.FAILED),
        *(("crashed", f"ended by {name}", End.FAILED) for name in ("SIGBUS", "SIGFPE", "SIGILL")),
        ("crashed", "exit code 1; its log ends: child ended by SIGKILL", End.FAILED),
        ("crashed", "exit code 1; its log ends: Input/output error", End.FAILED),
        ("crashed", "ended by SIGKILL; it left no result", End.MISSING),
        ("crashed", "ended by SIGTERM after it had reported success", End.MISSING),
        ("crashed", "RuntimeError: GPU is lost", End.MISSING),
        ("crashed", "OSError: [Errno 28] No space left on device", End.MISSING),
        ("interrupted", "ended by SIGTERM", End.MISSING),
        ("skipped", "no GPU here", End.MISSING),
    ],
)
def test_what_is_a_failure_of_the_arm_and_what_one_of_the_machine(status, reason, expected):
    assert end_of(row(status, reason)) is expected


def test_a_cell_without_a_row_is_missing():
    assert end_of(None) is End.MISSING


@STEADY
@given(
    st.lists(st.sampled_from(STATUSES), max_size=6),
    st.sampled_from(["diverged", "crashed", "oom", "oom_killed", "timeout"]),
    st.data(),
)
def test_one_more_failure_is_never_washed_away(statuses, failure, data):
    """Whatever else was tried, before or after, under the same limits."""
    at = data.draw(st.integers(0, len(statuses)))
    attempts = [row(each) for each in [*statuses[:at], failure, *statuses[at:]]]
    assert end_of(ending(attempts)) in (End.DIVERGED, End.FAILED)


@STEADY
@given(st.lists(st.sampled_from(STATUSES), min_size=1, max_size=6))
def test_the_order_of_attempts_does_not_decide_how_a_seed_ended(statuses):
    ends = {
        end_of(ending([row(each) for each in order]))
        for order in itertools.islice(itertools.permutations(statuses), 24)
    }
    assert len(ends) == 1


def test_attempts_are_apart_by_code_environment_gpu_and_machine():
    attempts = [
        row("ok", code_sha256="a", attempt=1),
        row("interrupted", code_sha256="b", attempt=2),
        row("crashed", code_sha256="b", attempt=3),
        row("ok", code_sha256="a", host_id="other", attempt=4),
        row("ok", code_sha256="a", env_id="other", attempt=5),
        row("ok", code_sha256="a", gpu_name="other", attempt=6),
        row("diverged", code_sha256="a", attempt=7),
        row("skipped", attempt=8),
    ]
    groups = [[each["attempt"] for each in group] for group in by_circumstances(attempts)]
    assert groups == [["2", "3"], ["4"], ["5"], ["6"], ["1", "7"]]  # the latest is last
    assert by_circumstances(attempts[1:2]) == [attempts[1:2]]
    assert by_circumstances([]) == []
