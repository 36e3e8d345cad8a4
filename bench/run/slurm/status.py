"""Where the tasks of a submission stand: by their folders, and by the queue where it answers."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.records.columns import SETTLED
from bench.records.endings import by_circumstances, ending
from bench.records.folder import PLACE, ResultsFolder
from bench.records.rows import Row, by_cell, read_runs, read_table
from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.queue import Queued
from bench.run.slurm.submission import JobArray, Submission
from bench.statistics.text import aligned, counted

OPEN = "open"
STATES = ("done", "failed", "running", "queued", "requeued", "lost", "open")
# Words of the queue for a job that has not ended.
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT")


@dataclass(frozen=True)
class TaskStatus:
    name: str
    state: str  # one of STATES
    cells: Mapping[str, int]  # status of runs.csv, or open -> how many
    where: str  # of the queue: the node and since when, or why it waits

    @property
    def line(self) -> tuple[str, ...]:
        return self.name, self.state, _cells_text(self.cells), self.where


@dataclass(frozen=True)
class Stand:
    """Of a cell that a plan names."""

    run_id: str
    status: str  # of runs.csv, or open


def stands_in(folder: Path, codes: Collection[str] | None = None) -> dict[tuple[str, ...], Stand]:
    """What a matrix calls each cell that was selected there -> how it stands.

    `codes`: hashes of the worker's side whose rows count; None: all do.
    """
    results = ResultsFolder(folder)
    rows = read_runs(results.runs)
    if codes is not None:
        rows = [row for row in rows if row["code_sha256"] in codes]
    attempts = by_cell(rows)
    return {
        tuple(row[key] for key in PLACE): Stand(
            row["run_id"], _status(attempts.get(row["run_id"], []))
        )
        for row in read_table(results.plan)
        if row["selected"] == "true"
    }


def _status(attempts: Sequence[Row]) -> str:
    """By the circumstances that ran last, as in a report."""
    groups = by_circumstances(attempts)
    row = ending(groups[-1]) if groups else None
    return row["status"] if row and row["status"] in SETTLED else OPEN


def statuses(
    files: SlurmFiles, submission: Submission, queued: Sequence[Queued] | None
) -> list[TaskStatus]:
    """`queued`: what the queue holds of it; None: unknown."""
    jobs = _by_number(files, submission.arrays, queued or [])
    return [
        _status_of(task.name, files.task(task.name), jobs.get(number), queued is not None)
        for number, task in enumerate(submission.tasks, start=1)
    ]


def _by_number(
    files: SlurmFiles, arrays: Iterable[JobArray], queued: Iterable[Queued]
) -> dict[int, Queued]:
    """The number of a task -> its job. Of one that is submitted twice, the one that runs."""
    offsets = {files.job_name(array.name): array.offset for array in arrays}
    found: dict[int, Queued] = {}
    for job in queued:
        if job.name in offsets and job.index is not None:
            number = offsets[job.name] + job.index
            if number not in found or job.state == "RUNNING":
                found[number] = job
    return found


def _status_of(name: str, folder: Path, job: Queued | None, known: bool) -> TaskStatus:
    each = {stand.run_id: stand.status for stand in stands_in(folder).values()}
    cells = Counter(each.values())
    if job is not None:
        return TaskStatus(name, _queue_state(job), cells, _where(job))
    if cells[OPEN]:
        return TaskStatus(name, "lost" if known else OPEN, cells, "")
    return TaskStatus(name, "done" if cells["ok"] == cells.total() else "failed", cells, "")


def _queue_state(job: Queued) -> str:
    if job.state in WAITING:
        return "requeued" if job.restarts else "queued"
    return "running"


def _where(job: Queued) -> str:
    if job.state in WAITING:
        return f"{job.reason}, expected {job.since}" if job.since else job.reason
    state = "" if job.state == "RUNNING" else f"{job.state.lower()} "
    again = f", start {job.restarts + 1}" if job.restarts else ""
    return f"{state}on {job.node} since {job.since}{again}"


def is_over(found: Iterable[TaskStatus]) -> bool:
    """Whether every cell is ok, and nothing is left in the queue."""
    return all(each.state == "done" for each in found)


def describe_status(found: Sequence[TaskStatus], unknown: str = "") -> Iterator[str]:
    """A line for each task that is not simply done, then all in one.

    `unknown`: why it is not known what the queue holds.
    """
    told = [each.line for each in found if each.state != "done"]
    if told:
        yield from aligned([("task", "state", "cells", "where"), *told], left=range(4))
        yield ""
    states = Counter(each.state for each in found)
    parts = ", ".join(f"{states[state]} {state}" for state in STATES if states[state])
    cells = sum((Counter(each.cells) for each in found), Counter[str]())
    of_cells = f"{counted(cells.total(), 'cell')}: {_cells_text(cells)}"
    yield f"{counted(len(found), 'task')}: {parts}; {of_cells}"
    if unknown:
        yield f"what the queue holds is unknown: {unknown}"
    if states["lost"]:
        yield "lost: cells are open, and no job is in the queue for them; submit again runs these"


def _cells_text(cells: Mapping[str, int]) -> str:
    order = sorted(cells, key=lambda status: (status != "ok", status == OPEN, status))
    return ", ".join(f"{cells[status]} {status}" for status in order if cells[status])
