"""`import`: runs that were made elsewhere, read from a CSV or from logs."""

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import OutOption, err, out
from bench.errors import RequestError, program
from bench.records.hold import Newcomer
from bench.run.imported.logs import LogsRequest
from bench.run.imported.request import KEYS, CsvRequest
from bench.run.imported.results import Place
from bench.statistics.text import counted

COMMA = "a comma"


def import_runs(
    file: Annotated[
        Path | None, typer.Argument(help="a CSV, one row a run or one a step", metavar="FILE.csv")
    ] = None,
    model: Annotated[str, typer.Option(help="column of the model's name", metavar="COL")] = "",
    optimizer: Annotated[str, typer.Option(help="of the optimizer's name", metavar="COL")] = "",
    seed: Annotated[str, typer.Option(help="of the seed", metavar="COL")] = "",
    device: Annotated[str, typer.Option(help="of the device: cpu or cuda", metavar="COL")] = "",
    steps: Annotated[
        str, typer.Option(help="of the step, where a run has a row a step", metavar="COL")
    ] = "",
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="a figure's column: val_loss=COL, train_loss=COL, test_loss=COL, a column of "
            "runs.csv, or a metric of your own",
            metavar="NAME=COL",
        ),
    ] = None,
    better: Annotated[
        list[str] | None,
        typer.Option(help="of a metric of your own: which is better", metavar="NAME=lower|higher"),
    ] = None,
    fixed: Annotated[
        list[str] | None,
        typer.Option("--set", help="what all runs have, without a column", metavar="KEY=VALUE"),
    ] = None,
    baseline: Annotated[
        str, typer.Option(help="compare all with this, by the first metric", metavar="MODEL+OPT")
    ] = "",
    margin: Annotated[
        float | None, typer.Option(help="a difference that does not matter", metavar="X")
    ] = None,
    name: Annotated[str, typer.Option(help="name of it all [default: that of the file]")] = "",
    logs: Annotated[
        str, typer.Option(help="logs in place of a CSV: their paths, in quotes", metavar="'GLOB'")
    ] = "",
    matrix: Annotated[
        Path | None, typer.Option(help="for logs: a matrix whose program.read reads them")
    ] = None,
    name_pattern: Annotated[
        str,
        typer.Option(
            help="for logs: a regular expression for their paths with the groups model, optimizer, "
            "seed and device, as far as the matrix has several",
            metavar="REGEX",
        ),
    ] = "",
    any_length: Annotated[
        bool,
        typer.Option(
            "--any-length",
            help="runs of a configuration may end at different steps: else one that ends before "
            "others counts as crashed",
        ),
    ] = False,
    out_dir: OutOption = None,
) -> None:
    """Make a results folder of runs that were made elsewhere, for report, compare and bundle."""
    given = dict(zip(KEYS, (model, optimizer, seed, device), strict=True))
    columns = {key: column for key, column in given.items() if column}
    if name and (why := Place(name, name, "", 0).why_not.get("model")):
        raise RequestError(f"--name {why}")
    of_csv = (fixed or [], metric or [], better or [], steps, baseline, margin)
    given_any = any(each not in (None, [], "") for each in of_csv)
    if file is not None and not (logs or matrix or name_pattern):
        found, separator = CsvRequest(columns, *of_csv, name).read(file)
        if separator != COMMA:
            err.print(f"note: between the fields of {file} is {separator}")
    elif logs and matrix and name_pattern and not (file or columns or given_any):
        found = LogsRequest(logs, matrix, name_pattern, name).read()
    else:
        raise RequestError(
            "name a CSV with its columns, or --logs 'GLOB' --matrix FILE --name-pattern REGEX; the "
            "other options of the one are none of the other."
        )
    found = found if any_length else found.held_to_length()
    folder = out_dir or Path("results") / found.name
    found.write(folder, Newcomer(say=out.print))
    ends = Counter(run.columns["status"] for run in found.runs.values())
    told = ", ".join(f"{count} {status}" for status, count in ends.items())
    missing = len(found.planned) - len(found.runs)
    told += f"; {counted(missing, 'planned run')} not there" if missing else ""
    out.print(f"imported {counted(len(found.runs), 'run')} into {folder}: {told}")
    out.print(f"report: {program()} report {folder}")
