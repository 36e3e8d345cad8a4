"""Commands about what is here: the machine, its images, the classes that a matrix brings."""

import json
from pathlib import Path
from typing import Annotated

import typer

from bench.cli.common import (
    NOT_ALL_OK,
    OK,
    GpusOption,
    MatrixArgument,
    OnlyOption,
    OutOption,
    PythonOption,
    RuntimeOption,
    out,
)
from bench.cli.running import read_matrix
from bench.errors import EngineError, RequestError
from bench.launch.all_in_one import build_all_in_one
from bench.launch.choose import choose_launcher
from bench.launch.container import ContainerLauncher
from bench.launch.engine import Engine
from bench.launch.image import build, build_derived, find_base, find_image
from bench.launch.job import Stop
from bench.matrix.expansion import load_matrix
from bench.matrix.schema import json_schema
from bench.measure.machine import this_machine
from bench.run.gpus import IDLE, GpuRequest


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    out_dir: OutOption = None,
    corpus: Annotated[
        str | None, typer.Option(help="the text to look for: a path or a built-in's name")
    ] = None,
) -> None:
    """Say what this machine lacks for running cells, each with its remedy; change nothing."""
    from bench.doctor.examine import examine
    from bench.doctor.finding import CPU, as_dict, as_lines, missing

    findings = examine(runtime, worker_python, out_dir or Path("results"), corpus)
    if as_json:
        print(json.dumps(as_dict(findings), indent=2))
    else:
        for line in as_lines(findings):
            out.print(line)
    raise typer.Exit(NOT_ALL_OK if missing(findings, CPU) else OK)


def check(
    matrix: MatrixArgument,
    runtime: RuntimeOption = "auto",
    worker_python: PythonOption = None,
    only: OnlyOption = None,
    gpus: GpusOption = IDLE,
) -> None:
    """Try out every class or program of a matrix where its cells would run; exit 1 if one fails."""
    from bench.run.check import check as findings_of
    from bench.run.tryout import as_line

    asked, corpus, selected = read_matrix(matrix, only, None)
    cells = [cell for cell in asked.cells if cell.spec.run_id in selected]
    launcher, why = choose_launcher(
        runtime, worker_python, asked.image, asked.requirements, asked.installed
    )
    out.print(f"runtime: {why}")
    wrong = count = 0
    request = GpuRequest(gpus)
    machine = request.free_on(request.on(this_machine()), cells, 1, out.print, Stop())
    for finding in findings_of(asked, corpus, cells, launcher, machine):
        out.print(as_line(finding))
        count, wrong = count + 1, wrong + (not finding.ok)
    out.print(f"{count - wrong} of {count} checks ok" if count else "no class to check")
    raise typer.Exit(NOT_ALL_OK if wrong else OK)


def schema() -> None:
    """Print the matrix's JSON Schema, for editors."""
    print(json.dumps(json_schema(), indent=2))


def image(
    device: Annotated[str, typer.Argument(help="cpu or cuda")],
    runtime: Annotated[str, typer.Option(help="auto, docker or podman")] = "auto",
    matrix: Annotated[
        Path | None,
        typer.Option(
            help="a matrix whose image.requirements are installed in it too", metavar="FILE"
        ),
    ] = None,
    all_in_one: Annotated[
        bool, typer.Option("--all-in-one", help="then the image with the program in it, `bench`")
    ] = False,
) -> None:
    """Build the image that a device's cells run in, unless it is there already."""
    if device not in ("cpu", "cuda"):
        raise RequestError(f"there is no image for {device!r}. Allowed: cpu, cuda.")
    launcher, why = choose_launcher(runtime, None)
    if not isinstance(launcher, ContainerLauncher):
        raise EngineError(f"an image needs a container engine, and there is none here: {why}.")
    asked = load_matrix(matrix) if matrix else None
    if asked and asked.image:
        out.print(f"image: {asked.image}, which the matrix names; nothing to build")
        return
    requirements = asked.requirements if asked else ()
    tag = _cell_image(launcher.engine, device, requirements)
    if all_in_one:
        names = build_all_in_one(launcher.engine, device, tag)
        out.print(f"all in one: {', '.join(names)}")


def _cell_image(engine: Engine, device: str, requirements: tuple[str, ...]) -> str:
    """Its tag; built if it is not there."""
    found = find_image(engine, device, requirements)
    if found is not None:
        out.print(f"image: {found[0]} (built before)")
        return found[0]
    if (plain := find_image(engine, device)) is not None:
        tag = plain[0]
    else:
        base = find_base(engine)
        out.print(f"base image: {base}")
        tag = build(engine, device, base)
    if requirements:
        tag = build_derived(engine, tag, requirements)
    out.print(f"image: {tag}")
    return tag
