"""Commands on results that are there: report, comparison, bundle."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import (
    NOT_ALL_OK,
    OK,
    FailOnOption,
    FormatOption,
    GpusOption,
    MatrixArgument,
    PairsOption,
    PythonOption,
    RuntimeOption,
    UndecidedOption,
    WaitOption,
    err,
    needing_extra,
    out,
    report_builder,
)
from bench.errors import BenchError, RecordError, RequestError
from bench.launch.choose import choose_launcher
from bench.records.folder import ResultsFolder, results_folders
from bench.records.programs import joined_setup
from bench.report.built import Built, Looked
from bench.run.gpus import IDLE, GpuRequest
from bench.statistics.text import counted

MOST_NAMED = 5  # folders of an array of jobs are hundreds


def report(
    folders: Annotated[list[Path], typer.Argument(help="results folders", metavar="DIR...")],
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="for one folder: DIR/report by default")
    ] = None,
) -> None:
    """Merge the CSVs of results folders into tables, plots and a page."""
    if out_dir is None and len(folders) > 1:
        raise RequestError("several folders need --out DIR for their common report.")
    target = out_dir or ResultsFolder(folders[0]).report
    built = _report(results_folders(folders), target)
    out.print(built.coverage)
    raise typer.Exit(NOT_ALL_OK if built.damaged else OK)


def _report(folders: list[Path], target: Path) -> Built:
    """Write a report, say what it says and where it is, and whether it lacks what was damaged."""
    built = report_builder()(folders, target)
    out.print("\n".join(["", *built.terminal_lines]), soft_wrap=True)
    out.print(f"report: {target / 'index.html'}")
    if built.looked:
        _tell_looks(folders, built.looked)
    if built.damaged:
        files = "1 file is" if built.damaged == 1 else f"{built.damaged} files are"
        err.print(f"error: {files} damaged; the report names what it had to leave out")
    return built


def _tell_looks(folders: Sequence[Path], looked: Looked) -> None:
    """Where else this user has tested the same claim: the page cannot know."""
    from bench.report.looks import note_for_user

    try:
        others = note_for_user(folders, looked)
    except RecordError as error:
        err.print(f"note: whether other folders were tested for this claim is not known: {error}")
        return
    if others:
        more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
        out.print(
            f"note: this claim was also tested in {counted(len(others), 'other folder')}: "
            f"{', '.join(others[:MOST_NAMED])}{more}. The report corrects for the interim looks at "
            "its own folders alone: a verdict that is picked among several is less certain than it "
            "says."
        )


def report_after_run(folder: ResultsFolder, code: int) -> int:
    """The run's exit code, unless the report fails: cells ran, so it is no wrong request."""
    try:
        built = _report([folder.path], folder.report)
    except BenchError as error:
        err.print(f"error: no report: {error}")
        return code or NOT_ALL_OK
    return code or (NOT_ALL_OK if built.damaged else OK)


def compare(
    base: Annotated[Path, typer.Argument(help="a results folder, or a runs.csv")],
    new: Annotated[Path, typer.Argument(help="the same of the version to judge")],
    fail_on: FailOnOption = None,
    undecided: UndecidedOption = "pass",
    disturbed: Annotated[
        str,
        typer.Option(
            help="drop disturbed times, or keep them: for cells run in turn, as by ab",
            metavar="drop|keep",
        ),
    ] = "drop",
    across: Annotated[
        str | None,
        typer.Option(
            help="unpaired, between machines that differ in this: gpu_name, image_id, "
            "driver_version or host_id",
            metavar="COLUMN",
        ),
    ] = None,
    form: FormatOption = "text",
) -> None:
    """Judge NEW against BASE by configuration; exit 1 if a --fail-on rule fails."""
    with needing_extra("compare"):
        from bench.compare.gate import make_gate
        from bench.compare.pairing import setup_at
    gate = make_gate(fail_on or [], undecided, disturbed, form, setup_at(base), across)
    comparison = gate.compare(base, new)
    print(gate.write(comparison), end="")
    raise typer.Exit(NOT_ALL_OK if gate.fails(comparison) else OK)


def ab(
    base: Annotated[str, typer.Argument(help="a git revision, or image:TAG")],
    head: Annotated[str, typer.Argument(help="the same; . is the working tree as it is")],
    matrix: MatrixArgument,
    pairs: PairsOption = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="folder for the results of both [default: results/ab-...]"),
    ] = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    gpus: GpusOption = IDLE,
    wait_for_gpu: WaitOption = False,
    fail_on: FailOnOption = None,
    undecided: UndecidedOption = "pass",
    form: FormatOption = "text",
) -> None:
    """Run two versions here, cell beside cell, and compare them; exit 1 if a rule fails."""
    with needing_extra("ab"):
        from bench.compare.ab import Request, run_pairs
        from bench.compare.gate import leave, make_gate
        from bench.matrix.expansion import load_matrix
    # What is wrong is to be known before a run. Both sides run in turn: disturbed pairs are kept.
    setup = joined_setup(cell.spec.settings for cell in load_matrix(matrix).cells)
    gate = make_gate(fail_on or [], undecided, "keep", form, setup)
    launcher, why = choose_launcher(runtime, worker_python)
    err.print(f"runtime: {why}")
    request = Request(
        *(matrix, out_dir, pairs, launcher, worker_python), GpuRequest(gpus, wait_for_gpu)
    )
    folder = run_pairs(base, head, request, err.print)
    comparison = gate.compare(folder / "base", folder / "head", (base, head))
    leave(comparison, folder)
    print(gate.write(comparison), end="")
    err.print(f"results: {folder}")
    raise typer.Exit(NOT_ALL_OK if gate.fails(comparison) else OK)


def bundle(
    folders: Annotated[
        list[Path],
        typer.Argument(help="a results folder with its report, or several", metavar="DIR..."),
    ],
    out_file: Annotated[
        Path | None, typer.Option("--out", help="for one folder: DIR.tar.gz, beside DIR")
    ] = None,
) -> None:
    """Put results folders and their report into one file to publish, with checksums."""
    report_builder()  # for its message if the report's packages are missing
    from bench.report.bundle import SUFFIX, make_bundle

    home = folders[0].resolve()
    if out_file is None and len(folders) > 1:
        raise RequestError("several folders need --out FILE for their common bundle.")
    made = make_bundle(results_folders(folders), out_file or home.with_name(f"{home.name}{SUFFIX}"))
    out.print(f"bundle: {made.file} ({made.members} files)\nSHA-256: {made.sha256}")
    for sha256 in made.lacks:
        out.print(f"note: it lacks the code {sha256[:12]}…, which is not in this machine's cache")


def verify(
    file: Annotated[Path, typer.Argument(help="a file that `bundle` has written", metavar="FILE")],
) -> None:
    """Check a bundle's checksums, and that its report follows from its CSVs."""
    report_builder()
    from bench.report.bundle import SUMS
    from bench.report.verify import PICTURES
    from bench.report.verify import verify as check

    verdict = check(file)
    for fault in verdict.wrong:
        out.print(fault)
    if verdict.wrong:
        out.print(f"{file}: not verified")
        raise typer.Exit(NOT_ALL_OK)
    pictures = [name for name in verdict.unchecked if name.endswith(PICTURES)]
    others = [name for name in verdict.unchecked if name not in pictures]
    unchecked = ", ".join([f"{len(pictures)} pictures, which differ with fonts", *others])
    out.print(
        f"{file}: verified: {verdict.members} files are what {SUMS} states, and the report of "
        f"version {verdict.version} follows from the CSVs (not compared: {unchecked})"
    )
