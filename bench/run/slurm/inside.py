"""Inside a job: is what it runs still what was submitted, and which CPUs and GPUs are its own."""

import os
from collections.abc import Callable, Mapping

from bench.errors import MissingError, QueueError, RequestError
from bench.matrix.expansion import Matrix
from bench.matrix.selection import select
from bench.records.columns import SETTLED
from bench.records.folder import ResultsFolder
from bench.records.rows import read_runs
from bench.run.slurm.queue import ask, read_cpus, show_job
from bench.run.slurm.submission import PlannedTask, Submission, code_now

JOB_ID, NODE, CPUS = "SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_CPUS_ON_NODE"
RESTARTS = "SLURM_RESTART_COUNT"
GPUS = "CUDA_VISIBLE_DEVICES"
REMEDY = "Submit again, with the same --out: the tasks that have open cells run anew."


def task_of(submission: Submission, number: int) -> PlannedTask:
    """Raises RequestError for a number that no task has."""
    if not 1 <= number <= len(submission.tasks):
        raise RequestError(f"there is no task {number}: {len(submission.tasks)} were submitted.")
    return submission.tasks[number - 1]


def check_code(submission: Submission) -> None:
    """Raises RequestError where the program is no longer the one that was submitted."""
    if submission.code != (now := code_now()):
        was, is_now = (", ".join(each[:12] for each in codes) for codes in (submission.code, now))
        raise RequestError(
            f"the program has changed since this was submitted (its code was {was}, and is "
            f"{is_now}): rows of both would stand beside each other. {REMEDY}"
        )


def check_cells(task: PlannedTask, matrix: Matrix) -> None:
    """Raises RequestError where the cells are others than were submitted.

    `matrix`: with its corpus. The text of the matrix was kept; what it names may have changed.
    """
    chosen = select(matrix.cells, task.only, None)
    now = {cell.spec.run_id for cell in matrix.cells if not cell.waits} & chosen
    if now != set(task.run_ids):
        raise RequestError(
            f"{task.name}: {len(now - set(task.run_ids))} of {len(now)} cells are others than were "
            "submitted: the text, code or data that the matrix names has changed since. "
            f"{REMEDY}"
        )


def told_start(variables: Mapping[str, str] = os.environ) -> str:
    """On which node, and after how many starts; empty outside of a job."""
    node, again = variables.get(NODE, ""), variables.get(RESTARTS, "")
    return (f" on {node}" if node else "") + (f", started again ({again})" if again else "")


def made_so_far(folder: ResultsFolder) -> set[str]:
    """What a task has to show: cells that ended, and checkpoints, each by a name of its own."""
    ended = {row["run_id"] for row in read_runs(folder.runs) if row["status"] in SETTLED}
    return ended | {path.name for path in folder.cells.glob("*/checkpoints/*")}


def keep_to_own_cpus(say: Callable[[str], None], variables: Mapping[str, str] = os.environ) -> None:
    """Bind this process, and so its cells, to the job's CPUs, where the site has not done so.

    Raises:
        MissingError: if the job may use more CPUs than are its own, and these are not known.
    """
    allowed, given = os.sched_getaffinity(0), variables.get(CPUS, "")
    if JOB_ID not in variables or (given.isdecimal() and len(allowed) <= int(given)):
        return
    own = _own_cpus(variables[JOB_ID], variables.get(NODE, ""))
    if not own or not own <= allowed:
        raise MissingError(
            f"this job has {given or 'some'} CPUs and may use {len(allowed)}, and which are its "
            "own `scontrol show job -d` does not tell: it would disturb others. Let the site bind "
            "jobs (TaskPlugin=task/affinity or task/cgroup), or ask for whole nodes: --exclusive."
        )
    os.sched_setaffinity(0, own)
    say(f"CPUs: {' '.join(map(str, sorted(own)))}, those of the job; its site binds none")


def _own_cpus(job_id: str, node: str) -> set[int] | None:
    try:
        return read_cpus(ask(show_job(job_id)), node)
    except (MissingError, QueueError):
        return None


def check_gpus(task: PlannedTask, variables: Mapping[str, str] = os.environ) -> None:
    """Raises MissingError where the queue gave a task on GPUs none of its own."""
    if task.device == "cuda" and JOB_ID in variables and not variables.get(GPUS):
        raise MissingError(
            f"{task.name} needs a GPU, and the queue gave it none ({GPUS} is not set): it would "
            "take one that may be another job's. Name what the site calls them: -- --gres=gpu:1."
        )
