"""Commands for a queue: a matrix as an array of jobs, what one of them runs, how they stand."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import (
    INTERRUPTED,
    NOT_ALL_OK,
    OK,
    ImageOption,
    MatrixArgument,
    OutOption,
    PythonOption,
    RetryOption,
    out,
)
from bench.cli.running import read_matrix, run
from bench.errors import MissingError, QueueError, RequestError, nearest, program
from bench.records.folder import ResultsFolder
from bench.run.slurm import inside, queue
from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.script import NO_FURTHER
from bench.run.slurm.status import describe_status, is_over, statuses
from bench.run.slurm.submission import RunOptions, Submission
from bench.run.slurm.submit import (
    ToSubmit,
    check_runtime,
    commands_to_type,
    jobs_in_queue,
    prepare,
)
from bench.run.slurm.submit import submit as give_to_queue
from bench.statistics.text import counted

QUEUES = ("slurm",)
USUAL_INDEX = 1000  # the largest index of an array, as SLURM comes (MaxArraySize 1001)


def submit(
    queue_name: Annotated[str, typer.Argument(help="which queue: slurm", metavar="slurm")],
    matrix: MatrixArgument,
    further: Annotated[
        list[str] | None,
        typer.Argument(help="after --: words for sbatch, which win", metavar="[-- WORD...]"),
    ] = None,
    out_dir: OutOption = None,
    go: Annotated[bool, typer.Option("--go", help="submit; else it says what to type")] = False,
    task: Annotated[
        str,
        typer.Option(help="what a task is: all runs of a seed, or a run", metavar="seed|cell"),
    ] = "seed",
    runtime: Annotated[
        str, typer.Option(help="where cells run: local or apptainer", metavar="RUNTIME")
    ] = "local",
    worker_python: PythonOption = None,
    image: ImageOption = None,
    jobs: Annotated[
        int, typer.Option(help="cells of a task at once, each on its own CPUs", min=1, metavar="N")
    ] = 1,
    retry_failed: RetryOption = False,
) -> None:
    """Write a matrix as an array of jobs, a results folder each, and a report after them."""
    if queue_name not in QUEUES:
        raise RequestError(f"submit {queue_name}: no such queue. {nearest(queue_name, QUEUES)}")
    words = tuple(further or ())
    queue.check_further(words)
    check_runtime(runtime, image)
    asked, corpus, _ = read_matrix(matrix, None, None)
    files = SlurmFiles.at(out_dir or Path("results") / asked.name)
    largest = _largest_index(files, go)
    options = RunOptions(runtime, _absolute(worker_python), _absolute(image), jobs, retry_failed)
    request = ToSubmit(asked, corpus, matrix, task, options, largest)
    submission, notes = prepare(files, request)
    for note in notes:
        out.print(note)
    if not submission.arrays:
        out.print(
            f"nothing to submit. The report: {program()} report {shlex.quote(str(files.out))}"
        )
        return
    if go:
        for line in give_to_queue(files, submission, words):
            out.print(line)
        out.print(f"how they stand: {_status_command(files)}")
        return
    out.print("to submit, give --go, or type:")
    for line in commands_to_type(files, submission, words):
        out.print(line, soft_wrap=True)


def _largest_index(files: SlurmFiles, go: bool) -> int:
    """Of an array here, where nothing of an earlier submission is in the queue.

    Raises:
        RequestError: if something is.
        MissingError, QueueError: if SLURM does not tell; without `go` that is a note.
    """
    try:
        _refuse_twice(files)
        return queue.read_largest_index(queue.ask(queue.show_config()))
    except (MissingError, QueueError) as error:
        if go:
            raise
        out.print(
            f"note: {error} So it is unknown whether jobs of {files.out} are in the queue, and "
            f"arrays are of up to {USUAL_INDEX} tasks, as SLURM comes"
        )
        return USUAL_INDEX


def _status_command(files: SlurmFiles) -> str:
    return f"{program()} status {shlex.quote(str(files.out))}"


def _absolute(path: str | None) -> str | None:
    """Jobs start in the folder where they were submitted, and may change it."""
    return str(Path(path).absolute()) if path else None


def _refuse_twice(files: SlurmFiles) -> None:
    """Raises RequestError while jobs of an earlier submission have not ended."""
    if found := jobs_in_queue(files):
        names = ",".join(sorted({job.name for job in found}))
        raise RequestError(
            f"{files.out} has {counted(len(found), 'job')} in the queue, and two of one task would "
            f"run the same cells. Wait for them ({_status_command(files)}), or end them: scancel "
            f"--name={names}"
        )


def task(
    out_dir: Annotated[Path, typer.Argument(help="the --out of `submit`", metavar="DIR")],
    number: Annotated[int, typer.Argument(help="which task, from 1", metavar="N")],
) -> None:
    """Run a task of what was submitted: what the scripts of `submit` call, inside a job."""
    files = SlurmFiles.at(out_dir)
    submission = Submission.read(files)
    mine, options = inside.task_of(submission, number), submission.options
    out.print(f"task {number} of {len(submission.tasks)}: {mine.name}{inside.told_start()}")
    inside.check_code(submission)
    inside.check_gpus(mine)
    inside.keep_to_own_cpus(out.print)
    matrix = Path(submission.matrix)
    asked, _, _ = read_matrix(matrix, None, None, files.matrix)
    inside.check_cells(mine, asked)
    folder = ResultsFolder(files.task(mine.name))
    before = inside.made_so_far(folder)
    try:
        run(
            matrix,
            folder.path,
            runtime=options.runtime,
            worker_python=options.worker_python,
            image=options.image,
            only=list(mine.only),
            jobs=str(options.jobs),
            wait_for_folder=True,  # a node that is lost to the queue may still run this task
            retry_failed=options.retry_failed,
            text_from=files.matrix,
        )
    except typer.Exit as ended:
        if ended.exit_code != INTERRUPTED or inside.made_so_far(folder) - before:
            raise
        raise typer.Exit(NO_FURTHER) from ended


def status(
    out_dir: Annotated[Path, typer.Argument(help="the --out of `submit`", metavar="DIR")],
) -> None:
    """Say how the tasks of a submission stand, by their folders and the queue; exit 1 until all
    cells are ok.
    """
    files = SlurmFiles.at(out_dir)
    submission = Submission.read(files)
    queued, unknown = None, ""
    try:
        queued = jobs_in_queue(files)
    except (MissingError, QueueError) as error:
        unknown = str(error)
    found = statuses(files, submission, queued)
    for line in describe_status(found, unknown):
        out.print(line)
    raise typer.Exit(OK if is_over(found) else NOT_ALL_OK)
