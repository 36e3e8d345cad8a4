"""How tasks stand, by folders that are made up and what a queue may say."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.queue import Queued
from bench.run.slurm.status import describe_status, is_over, statuses
from bench.run.slurm.submission import JobArray, PlannedTask, RunOptions, Submission
from tests.builders.results import Results

NAMES = ("cpu-seed-1", "cpu-seed-2", "cpu-seed-3")
OPTIONS = RunOptions("local", None, None, 1, False)
TASKS = tuple(PlannedTask(name, "cpu", (), ()) for name in NAMES)
# As of a cluster that allows arrays of two tasks.
ARRAYS = (JobArray("cpu-1", "cpu", 0, (1, 2)), JobArray("cpu-2", "cpu", 2, (3,)))
SUBMISSION = Submission("/m.yaml", "seed", OPTIONS, (), TASKS, ARRAYS)
NODE, SINCE = "n1", "2026-01-01T10:00:00"

Ended = dict[str, list[str]]  # a task -> the statuses of its two cells; fewer: open ones


@pytest.fixture
def laid_out(tmp_path: Path) -> Callable[..., SlurmFiles]:
    def lay_out(ended: Ended) -> SlurmFiles:
        files = SlurmFiles.at(tmp_path)
        for seed, name in enumerate(NAMES, start=1):
            results = Results(files.task(name))
            run_ids = [results.planned(optimizer=arm, seed=seed) for arm in ("adamw", "sgd")]
            results.planned(seed=99, selected=False)  # of another task
            for run_id, status in zip(run_ids, ended.get(name, []), strict=False):
                results.ended(run_id, status)
            results.path.mkdir(parents=True)
            results.write()
        return files

    return lay_out


def job(
    files: SlurmFiles, what: str, index: int | None, state: str, restarts: int = 0, reason: str = ""
) -> Queued:
    running = state != "PENDING"
    return Queued(
        *(files.job_name(what), index, state, NODE if running else ""),
        SINCE if running else "",
        restarts,
        reason,
    )


OK, FAILED, HALF = ["ok", "ok"], ["ok", "crashed"], ["ok"]


def test_all_done_is_one_line(laid_out: Callable[..., SlurmFiles]) -> None:
    found = statuses(laid_out(dict.fromkeys(NAMES, OK)), SUBMISSION, [])
    assert is_over(found)
    assert list(describe_status(found)) == ["3 tasks: 3 done; 6 cells: 6 ok"]


@pytest.mark.parametrize(
    ("ended", "state", "where"),
    [
        (FAILED, "failed", ""),
        (HALF, "lost", ""),
        ([], "lost", ""),
        (["ok", "interrupted"], "lost", ""),
        (["diverged", "oom"], "failed", ""),
    ],
)
def test_what_is_in_no_queue_is_told_by_its_cells(
    laid_out: Callable[..., SlurmFiles], ended: list[str], state: str, where: str
) -> None:
    found = statuses(laid_out({NAMES[0]: OK, NAMES[1]: ended, NAMES[2]: OK}), SUBMISSION, [])
    assert [each.state for each in found] == ["done", state, "done"]
    assert found[1].where == where
    assert not is_over(found)


@pytest.mark.parametrize(
    ("state", "restarts", "reason", "told", "where"),
    [
        ("PENDING", 0, "Resources", "queued", "Resources"),
        ("PENDING", 2, "BeginTime", "requeued", "BeginTime"),
        ("RUNNING", 0, "None", "running", f"on n1 since {SINCE}"),
        ("RUNNING", 2, "None", "running", f"on n1 since {SINCE}, start 3"),
        ("COMPLETING", 0, "None", "running", f"completing on n1 since {SINCE}"),
    ],
)
def test_what_is_in_the_queue_is_told_by_it(
    laid_out: Callable[..., SlurmFiles],
    state: str,
    restarts: int,
    reason: str,
    told: str,
    where: str,
) -> None:
    """Also of a task whose cells are all ok: its job may still write."""
    files = laid_out({NAMES[0]: OK, NAMES[1]: OK, NAMES[2]: OK})
    # The third task is the first of its array.
    queued = [
        job(files, "cpu-2", 1, state, restarts, reason),
        job(files, "report", None, "PENDING"),
    ]
    found = statuses(files, SUBMISSION, queued)
    assert [each.state for each in found] == ["done", "done", told]
    assert found[2].where == where
    assert not is_over(found)


def test_of_two_jobs_of_a_task_the_one_that_runs_is_told(
    laid_out: Callable[..., SlurmFiles],
) -> None:
    files = laid_out({})
    both = [job(files, "cpu-1", 1, "RUNNING"), job(files, "cpu-1", 1, "PENDING")]
    for queued in (both, both[::-1]):
        assert statuses(files, SUBMISSION, queued)[0].state == "running"


def test_the_lines_say_what_is_not_simply_done(laid_out: Callable[..., SlurmFiles]) -> None:
    files = laid_out({NAMES[0]: OK, NAMES[1]: FAILED, NAMES[2]: HALF})
    found = statuses(files, SUBMISSION, [job(files, "cpu-2", 1, "RUNNING")])
    assert list(describe_status(found)) == [
        "task        state    cells            where",
        "cpu-seed-2  failed   1 ok, 1 crashed",
        f"cpu-seed-3  running  1 ok, 1 open     on n1 since {SINCE}",
        "",
        "3 tasks: 1 done, 1 failed, 1 running; 6 cells: 4 ok, 1 crashed, 1 open",
    ]


def test_without_squeue_what_is_open_may_be_in_the_queue(
    laid_out: Callable[..., SlurmFiles],
) -> None:
    found = statuses(laid_out({NAMES[0]: OK, NAMES[1]: OK}), SUBMISSION, None)
    assert [each.state for each in found] == ["done", "done", "open"]
    *_, last, unknown = describe_status(found, "there is no squeue here.")
    assert last == "3 tasks: 2 done, 1 open; 6 cells: 4 ok, 2 open"
    assert unknown == "what the queue holds is unknown: there is no squeue here."
