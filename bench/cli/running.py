"""Commands that plan and run a matrix."""

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import (
    DONE_BY,
    INTERRUPTED,
    NOT_ALL_OK,
    OK,
    AcceptOption,
    DoneByOption,
    GpusOption,
    ImageOption,
    JobsOption,
    MatrixArgument,
    OnlyOption,
    OutOption,
    PythonOption,
    RetryOption,
    RuntimeOption,
    ShardOption,
    TrialsOption,
    WaitOption,
    err,
    needing_extra,
    out,
    report_builder,
)
from bench.cli.reports import report_after_run
from bench.errors import (
    CacheError,
    CorpusError,
    EngineError,
    FolderError,
    GpuError,
    MissingError,
    RecordError,
    RequestError,
)
from bench.launch.baton import Baton
from bench.launch.choose import choose_launcher
from bench.launch.job import Environment, Launcher
from bench.matrix.choice import Tuning, alike, pointless_in, trials_of, tuning_of
from bench.matrix.expansion import Matrix, load_matrix
from bench.matrix.selection import select
from bench.matrix.trials import arm_of
from bench.measure.machine import Machine, this_machine
from bench.measure.watch import SAMPLE_MS
from bench.records.cells import Cell
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, by_cell, read_runs
from bench.records.tokenfiles import AnyCorpus
from bench.run.gpus import IDLE, GpuRequest
from bench.run.holding import held
from bench.run.plan import describe, program_line
from bench.run.progress import LiveDisplay, PlainDisplay, reading_tokens
from bench.run.runner import Runner
from bench.run.standing import Here, Policy, limit_raised, skip_reason
from bench.statistics.text import counted


def plan(
    matrix: MatrixArgument,
    out_dir: OutOption = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    image: ImageOption = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
    gpus: GpusOption = IDLE,
    retry_failed: RetryOption = False,
    done_by: DoneByOption = "kind",
    accept_code: AcceptOption = None,
    trials_from: TrialsOption = None,
    sd: Annotated[
        float | None,
        typer.Option(
            help="also tell how large a difference the seeds will find, at this standard deviation "
            "of paired differences (claim.variance pooled: of one configuration)",
            metavar="SD",
        ),
    ] = None,
) -> None:
    """Print every cell, its limits, whether it is done, and an estimate; run nothing.

    It takes every option of `run` that decides which rows count.
    """
    asked, corpus, selected = read_matrix(matrix, only, shard)
    launcher, why = choose_launcher(
        runtime, worker_python, image or asked.image, asked.requirements, asked.installed
    )
    out.print(f"runtime  {why}")
    rows = read_runs(_folder(asked, out_dir).runs)
    machine = GpuRequest(gpus).on(this_machine())
    policy = Policy(retry_failed, _any_of_kind(done_by), _accepted(accept_code or [], rows))
    here = Here(machine, _environments(asked, launcher, machine), policy, by_cell(rows))
    places = {cell.place for cell in asked.cells if cell.spec.run_id in selected}
    elsewhere = [row for folder in trials_from or [] for row in trials_of(folder, policy.codes)]
    asked = _decided(
        asked, lambda cells: [row for cell in cells if (row := here.row_of(cell))], elsewhere
    )
    selected = {cell.spec.run_id for cell in asked.cells if cell.place in places}
    done = {cell.spec.run_id for cell in asked.cells if here.is_done(cell)}
    lines = list(describe(asked, corpus, rows, selected, done, machine))
    if not retry_failed:
        chosen = [cell for cell in asked.cells if cell.spec.run_id in selected]
        lines += _raised(chosen, [here.row_of(cell) for cell in chosen])
    if sd is not None:
        lines += _found(asked, sd)
    out.print("\n".join(lines))  # in one piece: rich takes its time over every print


def _found(asked: Matrix, sd: float) -> list[str]:
    if not 0 < sd < math.inf:
        raise RequestError(f"--sd {sd:g}: write a standard deviation above 0, such as 0.0015.")
    with needing_extra("plan --sd"):
        from bench.run.detectable import differences_found
    return ["", *differences_found(asked, asked.claim, sd)]


def run(
    matrix: MatrixArgument,
    out_dir: OutOption = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    image: ImageOption = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
    jobs: JobsOption = "1",
    gpus: GpusOption = IDLE,
    wait_for_gpu: WaitOption = False,
    wait_for_folder: Annotated[
        bool,
        typer.Option(
            "--wait-for-folder", help="wait while another runner holds the results folder"
        ),
    ] = False,
    retry_failed: RetryOption = False,
    done_by: DoneByOption = "kind",
    accept_code: AcceptOption = None,
    trials_from: TrialsOption = None,
    text_from: Annotated[
        Path | None,
        typer.Option(
            help="a copy that was kept of the matrix, which is run in its place; relative paths "
            "start where MATRIX lies",
            metavar="FILE",
        ),
    ] = None,
    sample_ms: Annotated[
        float, typer.Option(help="milliseconds between two readings of the GPU; 0: none")
    ] = SAMPLE_MS,
    with_report: Annotated[
        bool, typer.Option("--report", help="then make the report, and print its verdict")
    ] = False,
) -> None:
    """Run the cells that are not done; each leaves its row as it ends. Installs nothing."""
    if with_report:
        report_builder()  # what it lacks is to be known before a long run, not after
    at_once = _jobs(jobs)
    request = GpuRequest(gpus, wait_for_gpu)
    machine = request.on(this_machine())
    asked, corpus, selected = read_matrix(matrix, only, shard, text_from)
    launcher, why = choose_launcher(
        runtime, worker_python, image or asked.image, asked.requirements, asked.installed
    )
    folder = _folder(asked, out_dir)
    _check_sample_ms(sample_ms)
    of_kind = _any_of_kind(done_by)
    out.print(f"corpus: {corpus.chosen}" if corpus else f"program: {program_line(asked)}")
    out.print(f"runtime: {why}")
    with held(folder, wait_for_folder, out.print) as hold:
        runs = folder.open_runs()
        if left := launcher.clean(folder.path):
            out.print(f"removed {counted(left, 'container')} of an earlier run that was killed")
        folder.discard_compiled()
        runner = Runner(
            folder=folder,
            runs=runs,
            launcher=launcher,
            corpus=corpus,
            tokens=corpus.for_cells() if corpus else (),
            machine=machine,
            display=LiveDisplay(out) if out.is_terminal else PlainDisplay(out),
            policy=Policy(retry_failed, of_kind, _accepted(accept_code or [], runs.rows)),
            name=asked.name,
            gpus=request,
            sample_ms=sample_ms,
            code={code.sha256: code.store() for code in asked.codes},
            data=asked.data,
            baton=Baton.given(),
        )
        code = _run_matrix(runner, asked, selected, at_once, trials_from or [])
    if with_report and not hold.lost:  # else another goes on with it
        code = report_after_run(folder, code)
    raise typer.Exit(code)


def _run_matrix(
    runner: Runner, asked: Matrix, selected: set[str], jobs: int | None, others: Sequence[Path]
) -> int:
    """Run what can be run at once, then what its trials have told; the exit code."""
    places = {cell.place for cell in asked.cells if cell.spec.run_id in selected}
    elsewhere = [row for folder in others for row in trials_of(folder, runner.policy.codes)]
    decided = _plan_decided(runner, asked, places, elsewhere)
    ready, ran = [cell for cell in decided if not cell.waits], set[tuple[str, str, str, int]]()
    code = _run_cells(runner, ready, jobs)
    while ready and asked.tune and not runner.stop.is_set:
        ran |= {cell.place for cell in ready}
        decided = _plan_decided(runner, asked, places, elsewhere)
        ready = [cell for cell in decided if not cell.waits and cell.place not in ran]
        if ready:
            of_trials = any(cell.part == "trial" for cell in ready)
            out.print("around the best trials:" if of_trials else "tuned cells:")
            code = max(code, _run_cells(runner, ready, jobs))
    if asked.tune is None or runner.stop.is_set:
        return code
    rows = [*elsewhere, *runner.ended([cell for cell in decided if cell.part == "trial"])]
    pointless = pointless_in(decided, rows)
    for line in _alike_words(alike(decided, rows), pointless):
        out.print(line)
        code = max(code, NOT_ALL_OK)
    tuned = [cell for cell in decided if cell.part == "tuned"]
    waiting = [cell for cell in tuned if cell.waits and tuning_of(cell) not in pointless]
    if waiting:
        arms = ", ".join(sorted({" + ".join(arm_of(cell)[:2]) for cell in waiting}))
        out.print(f"{len(waiting)} tuned cells wait for trials that have not ended: {arms}")
        code = max(code, NOT_ALL_OK)
    return code


def _alike_words(
    same: Mapping[Tuning, Sequence[Sequence[int]]], pointless: Collection[Tuning]
) -> Iterator[str]:
    """A line for each arm of which trials were one."""
    for tuning, groups in same.items():
        (model, optimizer, _), study = tuning
        numbers = "; ".join(", ".join(map(str, group)) for group in groups)
        line = (
            f"{model} + {optimizer}{f', study {study}' if study else ''}: trials {numbers} ended "
            "with equal losses to the last digit. What tune.space varies does not reach the "
            "optimizer: its groups set it themselves, or its class drops it"
        )
        if tuning in pointless:
            line += "; nothing was tuned, and its tuned cells do not run"
        yield f"{line}."


def _plan_decided(
    runner: Runner,
    asked: Matrix,
    places: set[tuple[str, str, str, int]],
    elsewhere: Sequence[Row],
) -> list[Cell]:
    """Write the plan as far as rows tell it; its selected cells."""
    matrix = _decided(asked, runner.ended, elsewhere)
    cells = [cell for cell in matrix.cells if cell.place in places]
    runner.folder.write_plan(
        matrix.name, matrix.text, matrix.cells, {cell.spec.run_id for cell in cells}
    )
    return cells


def _decided(
    asked: Matrix, ended: Callable[[list[Cell]], Iterable[Row]], elsewhere: Sequence[Row]
) -> Matrix:
    """As far as the rows of trials tell it; those of a second stage are known by the first's."""
    matrix = asked
    for _ in range(2 if asked.tune and asked.tune.refine else 1):
        here = ended([cell for cell in matrix.cells if cell.part == "trial"])
        matrix = asked.decided([*elsewhere, *here])  # of one trial's rows, the one of this folder
    return matrix


def _run_cells(runner: Runner, cells: list[Cell], jobs: int | None) -> int:
    """Run them, say how they stand, and give the exit code that follows."""
    failed = False
    try:
        runner.run(cells, jobs)
    except (CacheError, CorpusError, EngineError, FolderError, GpuError, RecordError) as error:
        err.print(f"error: {error}\nCells that were not run stay open; the same command runs them.")
        failed = True
    rows = runner.rows(cells)
    last = [row["status"] if row else "open" for row in rows]
    others = sorted({status for status in last if status != "ok"})
    detail = "".join(f", {last.count(status)} {status}" for status in others)
    out.print(f"{last.count('ok')} of {len(cells)} runs ok{detail}; rows in {runner.folder.runs}")
    for line in _raised(cells, rows):
        out.print(line)
    if runner.stop.by_user:
        return INTERRUPTED
    return NOT_ALL_OK if others or failed else OK


def _raised(cells: Sequence[Cell], rows: Sequence[Row | None]) -> list[str]:
    """A line if cells that are done, by their rows, ended by a limit that has been raised since."""
    if not (count := sum(map(limit_raised, cells, rows))):
        return []
    return [
        f"{counted(count, 'cell')} ended by a limit that the matrix has raised since. "
        "They stay as they are: --retry-failed runs them again."
    ]


def _jobs(asked: str) -> int | None:
    """Cells at once; None for auto."""
    if asked == "auto":
        return None
    if not (asked.isdecimal() and asked.isascii() and int(asked) > 0):
        raise RequestError(f"--jobs {asked}: write a whole number from 1 on, or auto.")
    return int(asked)


def _any_of_kind(done_by: str) -> bool:
    if done_by not in DONE_BY:
        raise RequestError(f"--done-by {done_by}: write {' or '.join(DONE_BY)}.")
    return done_by == "kind"


def _check_sample_ms(sample_ms: float) -> None:
    # NVML's own figures are some 20 to 100 ms old; over a minute, most cells would have none.
    if sample_ms != 0 and not 10 <= sample_ms <= 60_000:
        raise RequestError(
            f"--sample-ms {sample_ms:g}: write 10 to 60000 milliseconds, or 0 to read nothing."
        )


def _accepted(asked: Sequence[str], rows: Sequence[Row]) -> frozenset[str]:
    """The code_sha256 that --accept-code means: whole, or a beginning that fits just one."""
    known = {row["code_sha256"] for row in rows if row["code_sha256"]}
    accepted = set()
    for text in asked:
        fitting = [code for code in known if text and code.startswith(text)]
        if len(fitting) != 1:
            raise RequestError(
                f"--accept-code {text}: {len(fitting)} codes in runs.csv begin with it. "
                f"In runs.csv: {', '.join(sorted(known)) or 'none'}."
            )
        accepted.add(fitting[0])
    return frozenset(accepted)


def read_matrix(
    path: Path, only: Sequence[str] | None, shard: str | None, text_from: Path | None = None
) -> tuple[Matrix, AnyCorpus | None, set[str]]:
    """A matrix and its corpus, both checked, and the run_ids of its selected cells.

    A matrix of a program has no corpus. Large files of tokens are read with a bar on the terminal.
    """
    matrix = load_matrix(path, text_from)
    with reading_tokens(err) as watch:
        corpus = matrix.find_corpus(watch)
    if corpus is not None:
        matrix = matrix.with_corpus(corpus.ref)
    return matrix, corpus, select(matrix.cells, only or [], shard)


def _folder(matrix: Matrix, asked: Path | None) -> ResultsFolder:
    return ResultsFolder(asked or Path("results") / matrix.name)


def _environments(matrix: Matrix, launcher: Launcher, machine: Machine) -> dict[str, Environment]:
    """What cells would run in, by device; a note where that is not here, so that all are open."""
    found = {}
    runnable = [cell for cell in matrix.cells if not skip_reason(cell, machine)]
    for device in sorted({cell.spec.device for cell in runnable}):
        try:
            found[device] = launcher.environment(device)
        except MissingError as error:
            out.print(f"note     {error}")
    return found
