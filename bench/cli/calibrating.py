"""The command that measures how often a gate is wrong."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import (
    GpusOption,
    MatrixArgument,
    PairsOption,
    PythonOption,
    RuntimeOption,
    WaitOption,
    err,
    needing_extra,
)
from bench.launch.choose import choose_launcher
from bench.records.programs import joined_setup
from bench.run.gpus import IDLE, GpuRequest

RULE = "step_time_ms_p50>5%"
SLOWER = (5.0, 15.0)


def calibrate(
    revision: Annotated[str, typer.Argument(help="a git revision; . is the working tree as it is")],
    matrix: MatrixArgument,
    rounds: Annotated[int, typer.Option(help="comparisons of each kind", metavar="N")] = 40,
    pairs: PairsOption = None,
    slower: Annotated[
        list[float] | None,
        typer.Option(
            help="a side whose training steps take so many percent longer; by default "
            + " and ".join(f"{percent:g}" for percent in SLOWER),
            metavar="PERCENT",
        ),
    ] = None,
    fail_on: Annotated[
        list[str] | None,
        typer.Option(help=f"a rule of the gate; by default {RULE}", metavar="RULE"),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="folder for all rounds [default: results/calibrate-...]"),
    ] = None,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    gpus: GpusOption = IDLE,
    wait_for_gpu: WaitOption = False,
) -> None:
    """Measure how often a gate fails equal versions here, and how often it finds slower steps."""
    with needing_extra("calibrate"):
        from bench.compare.ab import Request
        from bench.compare.alarms import as_text
        from bench.compare.calibrate import Calibration
        from bench.compare.calibrate import calibrate as measure
        from bench.compare.gate import make_gate
        from bench.matrix.expansion import load_matrix
    setup = joined_setup(cell.spec.settings for cell in load_matrix(matrix).cells)
    gate = make_gate(fail_on or [RULE], "pass", "keep", "text", setup)
    launcher, why = choose_launcher(runtime, worker_python)
    err.print(f"runtime: {why}")
    request = Request(
        *(matrix, out_dir, pairs, launcher, worker_python), GpuRequest(gpus, wait_for_gpu)
    )
    command = shlex.join(["bench", *sys.argv[1:]])
    asked = Calibration(revision, slower or SLOWER, rounds, gate, command)
    folder, found = measure(asked, request, err.print)
    print(as_text(found), end="")
    err.print(f"results: {folder}")
