"""The commands. The only place that prints and exits; it never imports torch."""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.cells import Cell
from bench.corpora import Corpus, find_corpus
from bench.errors import (
    BenchError,
    CodeError,
    CorpusError,
    EngineError,
    FolderError,
    MissingError,
    RecordError,
    RequestError,
    StoppedError,
)
from bench.folder import ResultsFolder
from bench.forms import json_schema
from bench.identity import code_sha256
from bench.launch.choose import RUNTIMES, choose_launcher
from bench.launch.container import ContainerLauncher
from bench.launch.derived import build_derived, find_derived
from bench.launch.engine import Engine
from bench.launch.image import build, find_base, find_image
from bench.matrix import Matrix, load_matrix, select
from bench.measure.machine import Machine, this_machine
from bench.measure.watch import SAMPLE_MS
from bench.plan import describe
from bench.progress import LiveDisplay, PlainDisplay
from bench.records import Row, RunsTable, read_table, terminal
from bench.report.built import Built
from bench.runner import Policy, Runner, skip_reason
from bench.tuning import arm_of, trials_of

OK, NOT_ALL_OK, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="bench",
    help="A benchmark harness for models and optimizers whose conclusions hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# No markup: names and paths may hold brackets, and package:Up: is no picture.
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=not sys.stdout.isatty())
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

MatrixArgument = Annotated[Path, typer.Argument(help="the matrix, a YAML file")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="results folder [default: results/NAME]")
]
RuntimeOption = Annotated[
    str, typer.Option(help="where cells run: " + ", ".join(RUNTIMES), metavar="RUNTIME")
]
PythonOption = Annotated[
    str | None,
    typer.Option(help="local runtime: an interpreter with torch and numpy", metavar="PATH"),
]
ImageOption = Annotated[
    str | None,
    typer.Option(help="containers: this image for all cells, not their device's", metavar="TAG"),
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(help="a change for the worse, such as 'step_time_ms_p50>5%'", metavar="RULE"),
]
UndecidedOption = Annotated[
    str, typer.Option(help="whether a rule that is undecided passes", metavar="pass|fail")
]
FormatOption = Annotated[
    str, typer.Option("--format", help="of what is printed", metavar="text|markdown|json")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", help="only cells with this value, such as seed=1", metavar="K=V"),
]
ShardOption = Annotated[
    str | None, typer.Option(help="only the I-th of N parts of the matrix", metavar="I/N")
]
JobsOption = Annotated[
    str,
    typer.Option(help="cells at once, on CPUs of their own; auto: all that fit", metavar="N|auto"),
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="run cells again that ended, but not ok")
]
TrialsOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="trials in this results folder count as well: another shard's", metavar="DIR"
    ),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(help="rows of this code_sha256 settle cells as well", metavar="HASH"),
]


def main() -> None:
    try:
        app()
    except BenchError as error:
        err.print(f"error: {error}")
        sys.exit(WRONG_REQUEST)


@app.command()
def plan(
    matrix: MatrixArgument,
    out_dir: OutOption = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
) -> None:
    """Print every cell, its limits, whether it is settled, and an estimate; run nothing."""
    asked, corpus = _read(matrix)
    selected = select(asked.cells, only or [], shard)
    rows = read_table(_folder(asked, out_dir).runs)
    machine = this_machine()
    settling = _settling(asked, rows, machine, runtime, worker_python)
    places = {cell.place for cell in asked.cells if cell.spec.run_id in selected}
    asked = asked.decided(settling)
    selected = {cell.spec.run_id for cell in asked.cells if cell.place in places}
    settled = {row["run_id"] for row in settling} & {cell.spec.run_id for cell in asked.cells}
    # In one piece: rich takes its time over every print.
    out.print("\n".join(describe(asked, corpus, rows, selected, settled, machine)))


@app.command()
def run(
    matrix: MatrixArgument,
    out_dir: OutOption = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    image: ImageOption = None,
    only: OnlyOption = None,
    shard: ShardOption = None,
    jobs: JobsOption = "1",
    retry_failed: RetryOption = False,
    accept_code: AcceptOption = None,
    trials_from: TrialsOption = None,
    sample_ms: Annotated[
        float, typer.Option(help="between two readings of the GPU; 0 reads nothing")
    ] = SAMPLE_MS,
    with_report: Annotated[bool, typer.Option("--report", help="and report when done")] = False,
) -> None:
    """Run what is open; a row is committed as each cell ends. Installs nothing."""
    if with_report:
        _report_builder()  # what it lacks is to be known before a long run, not after
    at_once = _jobs(jobs)
    asked, corpus = _read(matrix)
    selected = select(asked.cells, only or [], shard)
    launcher, why = choose_launcher(runtime, worker_python, image, asked.requirements)
    folder = _folder(asked, out_dir)
    _check_sample_ms(sample_ms)
    out.print(f"corpus: {corpus.chosen}")
    out.print(f"runtime: {why}")
    with folder.locked():
        runs = RunsTable(folder.runs)
        if left := launcher.clean(folder.path):
            out.print(f"removed {left} containers that an earlier, killed runner left")
        runner = Runner(
            folder=folder,
            runs=runs,
            launcher=launcher,
            corpus=corpus,
            tokens_file=corpus.store_tokens(),
            machine=this_machine(),
            display=LiveDisplay(out) if out.is_terminal else PlainDisplay(out),
            policy=Policy(retry_failed, _accepted(accept_code or [], runs.rows)),
            name=asked.name,
            sample_ms=sample_ms,
            code={code.sha256: code.store() for code in asked.codes},
        )
        code = _run_matrix(runner, asked, selected, at_once, trials_from or [])
    if with_report:
        code = _report_after_run(folder, code)
    raise typer.Exit(code)


def _run_matrix(
    runner: Runner, asked: Matrix, selected: set[str], jobs: int | None, others: Sequence[Path]
) -> int:
    """Run what can be run at once, then what its trials have told; the exit code."""
    places = {cell.place for cell in asked.cells if cell.spec.run_id in selected}
    codes = {code_sha256(), *runner.policy.accepted_code}
    elsewhere = [row for folder in others for row in trials_of(folder, codes)]
    _plan_decided(runner, asked, places, elsewhere)
    now = [cell for cell in asked.cells if cell.place in places and not cell.waits]
    code = _run_cells(runner, now, jobs)
    if asked.tune is None or runner.stop.is_set:
        return code
    decided = _plan_decided(runner, asked, places, elsewhere)
    tuned = [cell for cell in decided if cell.part == "tuned"]
    waiting = [cell for cell in tuned if cell.waits]
    if waiting:
        arms = ", ".join(sorted({" + ".join(arm_of(cell)[:2]) for cell in waiting}))
        out.print(f"{len(waiting)} tuned cells wait for trials that have not ended: {arms}")
        code = max(code, NOT_ALL_OK)
    ready = [cell for cell in tuned if not cell.waits]
    if not ready:
        return code
    out.print("tuned cells:")
    return max(code, _run_cells(runner, ready, jobs))


def _plan_decided(
    runner: Runner,
    asked: Matrix,
    places: set[tuple[str, str, str, int]],
    elsewhere: Sequence[Row],
) -> list[Cell]:
    """Write the plan as far as rows tell it; its selected cells."""
    here = runner.ended(cell for cell in asked.cells if cell.part == "trial")
    matrix = asked.decided([*elsewhere, *here])  # of one trial's rows, the one of this folder
    cells = [cell for cell in matrix.cells if cell.place in places]
    runner.folder.write_plan(matrix, {cell.spec.run_id for cell in cells})
    return cells


def _run_cells(runner: Runner, cells: list[Cell], jobs: int | None) -> int:
    """Run them, say how they stand, and give the exit code that follows."""
    failed = False
    try:
        runner.run(cells, jobs)
    except (CodeError, CorpusError, EngineError, FolderError, RecordError) as error:
        err.print(f"error: {error}\nCells that were not run stay open.")
        failed = True
    rows = [terminal(runner.runs.of(cell.spec.run_id)) for cell in cells]
    last = [row["status"] if row else "open" for row in rows]
    others = sorted({status for status in last if status != "ok"})
    detail = "".join(f", {last.count(status)} {status}" for status in others)
    out.print(f"{last.count('ok')} of {len(cells)} cells ok{detail}; rows in {runner.folder.runs}")
    if runner.stop.by_user:
        return INTERRUPTED
    return NOT_ALL_OK if others or failed else OK


def _report_after_run(folder: ResultsFolder, code: int) -> int:
    """The run's exit code, unless the report fails: cells ran, so it is no wrong request."""
    try:
        built = _report([folder.path], folder.report)
    except BenchError as error:
        err.print(f"error: no report: {error}")
        return code or NOT_ALL_OK
    return code or (NOT_ALL_OK if built.damaged else OK)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(help="results folders", metavar="DIR...")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="for one folder: DIR/report by default")
    ] = None,
) -> None:
    """Merge the CSVs of results folders into tables, plots and a page."""
    if out_dir is None and len(folders) > 1:
        raise RequestError("several folders need --out DIR for their common report.")
    built = _report(folders, out_dir or ResultsFolder(folders[0]).report)
    out.print(built.coverage)
    raise typer.Exit(NOT_ALL_OK if built.damaged else OK)


def _report(folders: list[Path], target: Path) -> Built:
    """Write a report and say where it is, and whether it lacks what was damaged."""
    built = _report_builder()(folders, target)
    out.print(f"report: {target / 'index.html'}")
    if built.damaged:
        files = "1 file is" if built.damaged == 1 else f"{built.damaged} files are"
        err.print(f"error: {files} damaged; the report names what it had to leave out")
    return built


def _report_builder() -> Callable[[Sequence[Path], Path], Built]:
    """The report's entry, imported on use: plan and run work without matplotlib."""
    with _needing_extra("the report"):
        from bench.report.build import build_report
    return build_report


@contextmanager
def _needing_extra(what: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{what} needs {error.name}. Install with: make setup   "
            "(or: pip install 'bench-matrix[report]')"
        ) from error


@app.command()
def compare(
    base: Annotated[Path, typer.Argument(help="a results folder, or a runs.csv")],
    new: Annotated[Path, typer.Argument(help="the same of the version to be judged")],
    fail_on: FailOnOption = None,
    undecided: UndecidedOption = "pass",
    disturbed: Annotated[
        str,
        typer.Option(help="keep: cells ran in turn, as by ab", metavar="drop|keep"),
    ] = "drop",
    form: FormatOption = "text",
) -> None:
    """Judge NEW against BASE, arm by arm; exit 1 if a --fail-on rule fails."""
    with _needing_extra("compare"):
        from bench.compare.gate import make_gate
    gate = make_gate(fail_on or [], undecided, disturbed, form)
    comparison = gate.compare(base, new)
    print(gate.write(comparison), end="")
    raise typer.Exit(NOT_ALL_OK if gate.fails(comparison) else OK)


@app.command()
def ab(
    base: Annotated[str, typer.Argument(help="a git revision, or image:TAG")],
    head: Annotated[str, typer.Argument(help="the same; . is the working tree as it is")],
    matrix: MatrixArgument,
    pairs: Annotated[
        int | None, typer.Option(help="seeds 1 to N in place of the matrix's", metavar="N")
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="for both results [default: results/ab-...]")
    ] = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    fail_on: FailOnOption = None,
    undecided: UndecidedOption = "pass",
    form: FormatOption = "text",
) -> None:
    """Run two versions here, cell beside cell, and compare them; exit 1 if a rule fails."""
    with _needing_extra("ab"):
        from bench.compare.ab import Request, run_pairs
        from bench.compare.gate import leave, make_gate
    # What is wrong is to be known before a run. Both sides run in turn: disturbed pairs are kept.
    gate = make_gate(fail_on or [], undecided, "keep", form)
    launcher, why = choose_launcher(runtime, worker_python)
    err.print(f"runtime: {why}")
    try:
        request = Request(matrix, out_dir, pairs, launcher, worker_python)
        folder = run_pairs(base, head, request, err.print)
    except StoppedError as error:
        err.print(str(error))
        raise typer.Exit(INTERRUPTED) from error
    comparison = gate.compare(folder / "base", folder / "head", (base, head))
    leave(comparison, folder)
    print(gate.write(comparison), end="")
    err.print(f"results: {folder}")
    raise typer.Exit(NOT_ALL_OK if gate.fails(comparison) else OK)


@app.command()
def bundle(
    folder: Annotated[Path, typer.Argument(help="a results folder with its report", metavar="DIR")],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="DIR.tar.gz, beside DIR, by default")
    ] = None,
) -> None:
    """Put a results folder and its report into one file to publish, with checksums."""
    _report_builder()  # for its message if the report's packages are missing
    from bench.report.bundle import make_bundle

    home = folder.resolve()
    made = make_bundle(folder, out_file or home.with_name(f"{home.name}.tar.gz"))
    out.print(f"bundle: {made.file} ({made.members} files)\nSHA-256: {made.sha256}")


@app.command()
def verify(
    file: Annotated[Path, typer.Argument(help="what `bundle` has written", metavar="FILE")],
) -> None:
    """Check a bundle's checksums, and that its report follows from its CSVs."""
    _report_builder()
    from bench.report import bundle as bundles

    verdict = bundles.verify(file)
    for fault in verdict.wrong:
        out.print(fault)
    if verdict.wrong:
        out.print(f"{file}: not verified")
        raise typer.Exit(NOT_ALL_OK)
    out.print(
        f"{file}: verified: {verdict.members} files are what {bundles.SUMS} states, and the "
        f"report of version {verdict.version} follows from the CSVs"
    )


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="the same for programs")] = False,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    out_dir: OutOption = None,
    corpus: Annotated[
        str | None, typer.Option(help="a path or a built-in's name, as in a matrix")
    ] = None,
) -> None:
    """Check what cells need here, each finding with its remedy; change nothing."""
    from bench.doctor.examine import examine
    from bench.doctor.finding import CPU, as_dict, as_lines, missing

    findings = examine(runtime, worker_python, out_dir or Path("results"), corpus)
    if as_json:
        print(json.dumps(as_dict(findings), indent=2))
    else:
        for line in as_lines(findings):
            out.print(line)
    raise typer.Exit(NOT_ALL_OK if missing(findings, CPU) else OK)


@app.command()
def check(
    matrix: MatrixArgument,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    only: OnlyOption = None,
) -> None:
    """Try out every class that a matrix brings, where its cells would run; exit 1 if one fails."""
    from bench import check as conformance

    asked = load_matrix(matrix)
    selected = select(asked.cells, only or [], None)
    cells = [cell for cell in asked.cells if cell.spec.run_id in selected]
    launcher, why = choose_launcher(runtime, worker_python, requirements=asked.requirements)
    out.print(f"runtime: {why}")
    wrong = count = 0
    try:
        for finding in conformance.check(asked, cells, launcher, this_machine()):
            out.print(conformance.as_line(finding))
            count, wrong = count + 1, wrong + (not finding.ok)
    except StoppedError as error:
        err.print(str(error))
        raise typer.Exit(INTERRUPTED) from error
    out.print(f"{count - wrong} of {count} checks ok" if count else "no class to check")
    raise typer.Exit(NOT_ALL_OK if wrong else OK)


@app.command()
def schema() -> None:
    """Print the matrix's JSON Schema, for editors."""
    print(json.dumps(json_schema(), indent=2))


@app.command()
def image(
    device: Annotated[str, typer.Argument(help="cpu or cuda")],
    runtime: Annotated[str, typer.Option(help="auto, docker or podman")] = "auto",
    matrix: Annotated[
        Path | None, typer.Option(help="with what its image.requirements ask for", metavar="FILE")
    ] = None,
) -> None:
    """Build the image that a device's cells run in, unless it is there already."""
    if device not in ("cpu", "cuda"):
        raise RequestError(f"there is no image for {device!r}. Allowed: cpu, cuda.")
    launcher, why = choose_launcher(runtime, None)
    if not isinstance(launcher, ContainerLauncher):
        raise EngineError(f"an image needs a container engine; here is none ({why}).")
    requirements = load_matrix(matrix).requirements if matrix else ()
    found = find_derived(launcher.engine, device, requirements)
    if found is not None:
        out.print(f"image: {found[0]} (was there)")
        return
    tag = _cell_image(launcher.engine, device)
    out.print(
        f"image: {build_derived(launcher.engine, tag, requirements) if requirements else tag}"
    )


def _cell_image(engine: Engine, device: str) -> str:
    """The tag of a device's own image, built if it is not there."""
    found = find_image(engine, device)
    if found is not None:
        return found[0]
    base = find_base(engine)
    out.print(f"base: {base}")
    return build(engine, device, base)


def _jobs(asked: str) -> int | None:
    """Cells at once; None for auto."""
    if asked == "auto":
        return None
    if not (asked.isdecimal() and asked.isascii() and int(asked) > 0):
        raise RequestError(f"--jobs {asked}: write a whole number from 1 on, or auto.")
    return int(asked)


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
                f"--accept-code {text}: {len(fitting)} codes in runs.csv begin so. "
                f"There: {', '.join(sorted(known)) or 'none'}."
            )
        accepted.add(fitting[0])
    return frozenset(accepted)


def _read(path: Path) -> tuple[Matrix, Corpus]:
    """A matrix and its text, both checked."""
    matrix = load_matrix(path)
    corpus = find_corpus(matrix.corpus)
    spec = matrix.cells[0].spec
    corpus.check(spec.train.block_size, spec.data)
    return matrix.with_corpus(corpus.ref), corpus


def _folder(matrix: Matrix, asked: Path | None) -> ResultsFolder:
    return ResultsFolder(asked or Path("results") / matrix.name)


def _settling(
    matrix: Matrix, rows: list[Row], machine: Machine, runtime: str, worker_python: str | None
) -> list[Row]:
    """The rows for which `run` would pass over cells; none, and why, where that cannot be told."""
    launcher, why = choose_launcher(runtime, worker_python, requirements=matrix.requirements)
    out.print(f"runtime  {why}")
    policy, settling = Policy(), []
    runnable = [cell for cell in matrix.cells if not skip_reason(cell, machine)]
    for device in sorted({cell.spec.device for cell in runnable}):
        try:
            environment = launcher.environment(device)
        except MissingError as error:
            out.print(f"note     {error}")
            continue
        settling += [
            row
            for row in rows
            if row["device"] == device and policy.settles(row, environment, machine)
        ]
    return settling
