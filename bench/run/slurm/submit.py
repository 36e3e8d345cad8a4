"""A matrix -> what is submitted: its open tasks laid out, their scripts written, the commands."""

import shlex
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.border.identity import PACKAGE
from bench.errors import FolderError, QueueError, RequestError
from bench.matrix.expansion import Matrix
from bench.records.cells import Cell
from bench.records.folder import TASKS, ResultsFolder
from bench.records.rows import Row, append_row, read_runs
from bench.records.tokenfiles import AnyCorpus
from bench.run.estimate import estimate_arms
from bench.run.slurm import queue
from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.queue import Queued
from bench.run.slurm.resources import Resources, resources_of
from bench.run.slurm.script import JobPlace, array_script, report_script
from bench.run.slurm.status import OPEN, Stand, stands_in
from bench.run.slurm.submission import RunOptions, Submission, arrays_of, code_now, planned
from bench.run.slurm.tasks import Task, tasks_of
from bench.statistics.text import counted

RUNTIMES = ("local", "apptainer")  # that stay within a job's control group
REPORT = "report"
JOB_COLUMNS = ("job_id", "what", "tasks")  # tasks: their numbers in submission.json
ARRAYS = "ARRAYS"  # in a command to type: where the numbers of the jobs before it stand


@dataclass(frozen=True)
class ToSubmit:
    matrix: Matrix  # with its corpus
    corpus: AnyCorpus | None
    file: Path  # of the matrix
    kind: str  # one of tasks.KINDS
    options: RunOptions
    largest_index: int  # of an array


def check_runtime(runtime: str, image: str | None) -> None:
    """Raises RequestError for one whose cells would leave the job."""
    if runtime not in RUNTIMES:
        raise RequestError(
            f"--runtime {runtime} cannot be used in a job: the containers of an engine are started "
            "by its daemon, outside of the job's limits, and outlive it. Allowed: "
            f"{', '.join(RUNTIMES)}."
        )
    if runtime == "apptainer" and image is None:
        raise RequestError("--runtime apptainer needs --image FILE.sif (docs/running.md).")
    if runtime == "local" and image is not None:
        raise RequestError(f"--image {image} needs --runtime apptainer.")


def jobs_in_queue(files: SlurmFiles) -> list[Queued]:
    """The jobs of an earlier submission that have not ended.

    Raises:
        MissingError, QueueError: if there is no queue here, or it does not answer.
    """
    if not files.submission.exists():
        return []
    arrays = Submission.read(files).arrays
    names = [files.job_name(what) for what in (*(each.name for each in arrays), REPORT)]
    return queue.read_queue(queue.ask(queue.squeue(names)))


def prepare(files: SlurmFiles, asked: ToSubmit) -> tuple[Submission, list[str]]:
    """Lay out the tasks that have open cells and write all that their jobs read; what to tell.

    Nothing of an earlier submission may be in the queue. Every task has its plan before it starts:
    a report names the cells of one that never did.

    Raises:
        FolderError, RequestError: where `files` cannot be used, or what is asked cannot be.
    """
    tasks, told = tasks_of(asked.matrix, asked.kind)
    _check_folder(files, asked.kind)
    retry = asked.options.retry_failed
    still_open = {task.name: open_cells(files.task(task.name), task, retry) for task in tasks}
    chosen = [number for number, task in enumerate(tasks, start=1) if still_open[task.name]]
    plans = tuple(planned(task) for task in tasks)
    submission = Submission(
        matrix=str(asked.file.absolute()),
        kind=asked.kind,
        options=asked.options,
        code=code_now(),
        tasks=plans,
        arrays=tuple(arrays_of(plans, chosen, asked.largest_index)),
    )
    notes = [told]
    if len(chosen) < len(tasks):
        notes.append(f"{len(tasks) - len(chosen)} of them have no open cell")
    if not chosen:
        return submission, notes
    cells: dict[str, list[list[Cell]]] = defaultdict(list)
    for number in chosen:
        task = tasks[number - 1]
        _lay_out(files, task, asked.matrix)
        cells[task.device].append(still_open[task.name])
    notes += _write(files, asked, submission, cells)
    return submission, notes


def _check_folder(files: SlurmFiles, kind: str) -> None:
    if ResultsFolder(files.out).plan.exists():
        raise FolderError(
            f"{files.out} holds runs that were made here. Give another --out; `report` takes both."
        )
    if files.submission.exists() and (before := Submission.read(files).kind) != kind:
        raise RequestError(
            f"--task {kind}: in {files.out} a task was a {before}, and its runs would be made a "
            f"second time. Write --task {before}, or give another --out."
        )


def open_cells(folder: Path, task: Task, retry_failed: bool) -> list[Cell]:
    """Those of a task without a row of today's code that tells how they ended, on any host.

    `retry_failed`: without an ok one.
    """
    results = ResultsFolder(folder)
    if not (results.plan.is_file() and results.runs.is_file()):
        return list(task.cells)
    stands = stands_in(folder, codes=code_now())

    def is_open(cell: Cell) -> bool:
        if not _is_planned(cell, stands):
            return True
        status = stands[tuple(map(str, cell.place))].status
        return status == OPEN or (retry_failed and status != "ok")

    return [cell for cell in task.cells if is_open(cell)]


def _lay_out(files: SlurmFiles, task: Task, matrix: Matrix) -> None:
    folder = ResultsFolder(files.task(task.name))
    if _is_laid_out(folder, task, matrix):
        return  # what a job that was killed has left there, the next one sees to
    with folder.locked():
        folder.open_runs()  # makes it
        run_ids = {cell.spec.run_id for cell in task.cells}
        folder.write_plan(matrix.name, matrix.text, matrix.cells, run_ids)


def _is_laid_out(folder: ResultsFolder, task: Task, matrix: Matrix) -> bool:
    tables = (folder.plan, folder.runs, folder.matrix)
    if not all(path.is_file() for path in tables):
        return False
    stands = stands_in(folder.path)
    same = all(_is_planned(cell, stands) for cell in task.cells)
    return same and folder.matrix.read_text(encoding="utf-8") == matrix.text


def _is_planned(cell: Cell, stands: Mapping[tuple[str, ...], Stand]) -> bool:
    """What a cell that waits is, its trials have told the plan."""
    stand = stands.get(tuple(map(str, cell.place)))
    return stand is not None and (cell.waits or stand.run_id == cell.spec.run_id)


def _write(
    files: SlurmFiles,
    asked: ToSubmit,
    submission: Submission,
    cells: Mapping[str, list[list[Cell]]],
) -> Iterator[str]:
    """Scripts, the matrix's text and the submission; what is asked of the queue, in words.

    `cells`: by device those that are open of each task.
    """
    place = JobPlace(sys.executable, PACKAGE.parent, Path.cwd(), files.out)
    every = [cell.spec for cell in asked.matrix.cells]
    estimates = estimate_arms(every, asked.corpus, _rows(files))
    of_device = {
        device: resources_of(of_tasks, asked.options.jobs, estimates)
        for device, of_tasks in cells.items()
    }
    try:
        files.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(files.matrix, asked.matrix.text)
        for array in submission.arrays:
            name, resources = files.job_name(array.name), of_device[array.device]
            text = array_script(name, array.indexes, array.offset, resources, place)
            write_atomically(files.script(array.name), text)
        write_atomically(files.script(REPORT), report_script(files.job_name(REPORT), place))
        submission.write(files)
    except OSError as error:
        what = f"{files.folder} cannot be written: {error}. Give another --out."
        raise FolderError(what) from error
    return (_words(device, resources) for device, resources in of_device.items())


def _rows(files: SlurmFiles) -> list[Row]:
    found: list[Row] = []
    for runs in sorted((files.out / TASKS).glob("*/runs.csv")):
        found += read_runs(runs)
    return found


def _words(device: str, resources: Resources) -> str:
    gpus = f", {resources.gpus} GPU" if resources.gpus else ""
    time = f"{resources.minutes} min"
    if resources.minutes is None:
        time = "the site's own time (how long a cell takes is not known: -- --time=MINUTES)"
    return f"a task on {device}: {resources.cpus} CPU, {resources.memory_mib} MiB{gpus}, {time}"


def commands_to_type(
    files: SlurmFiles, submission: Submission, further: Sequence[str]
) -> list[str]:
    """For a shell: the arrays, then the report, which waits for them."""
    lines, names = [], []
    for array in submission.arrays:
        names.append(f"{array.device}_{array.name.rpartition('-')[2]}")
        command = queue.sbatch(files.script(array.name), "%A_%a.log", further)
        lines.append(f"{names[-1]}=$({shlex.join(command)})")
    last = shlex.join(queue.sbatch(files.script(REPORT), "report-%j.log", further, [ARRAYS]))
    after = ":".join(f"${name}" for name in names)
    return [*lines, last.replace(f"afterany:{ARRAYS}", f"afterany:{after}")]


def submit(files: SlurmFiles, submission: Submission, further: Sequence[str]) -> Iterator[str]:
    """Give the queue the arrays, then the report; a line for each job, which is in jobs.csv then.

    Raises:
        MissingError, QueueError: if it does not take one; those before it stay submitted.
    """
    after: list[str] = []
    for array in submission.arrays:
        command = queue.sbatch(files.script(array.name), "%A_%a.log", further)
        after.append(_take(files, command, array.name, array.numbers, after))
        yield f"job {after[-1]}: {counted(len(array.numbers), 'task')} on {array.device}"
    command = queue.sbatch(files.script(REPORT), "report-%j.log", further, after)
    yield f"job {_take(files, command, REPORT, (), after)}: the report, after them"


def _take(
    files: SlurmFiles, command: Sequence[str], what: str, numbers: Sequence[int], before: list[str]
) -> str:
    try:
        job_id = queue.read_job_id(queue.ask(command))
    except QueueError as error:
        if not before:
            raise
        raise QueueError(
            f"{error} Submitted before it: {', '.join(before)}. End these and submit again: "
            f"scancel {' '.join(before)}"
        ) from error
    tasks = " ".join(map(str, numbers))
    append_row(files.jobs, JOB_COLUMNS, {"job_id": job_id, "what": what, "tasks": tasks})
    return job_id
