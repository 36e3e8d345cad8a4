"""What all commands share: where they print, how they exit, the options of more than one."""

import codecs
import errno
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TextIO

import typer
from rich.console import Console

from bench.errors import MissingError
from bench.launch.choose import RUNTIMES
from bench.matrix.packaged import NAMES, matrix_file
from bench.report.built import Built

OK, NOT_ALL_OK, WRONG_REQUEST, INTERRUPTED = 0, 1, 2, 130

# No markup: names and paths may hold brackets, and package:Up: is no picture.
# Standard output that was closed is None.
_wrap = sys.stdout is None or not sys.stdout.isatty()
out = Console(highlight=False, markup=False, emoji=False, soft_wrap=_wrap)
err = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)

MatrixArgument = Annotated[
    Path,
    typer.Argument(
        help=f"the matrix: a YAML file, or one that comes along ({', '.join(NAMES)})",
        callback=matrix_file,
    ),
]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="results folder [default: results/NAME]")
]
RuntimeOption = Annotated[
    str, typer.Option(help="where cells run: " + ", ".join(RUNTIMES), metavar="RUNTIME")
]
PairsOption = Annotated[
    int | None, typer.Option(help="run every configuration with the seeds 1 to N", metavar="N")
]
PythonOption = Annotated[
    str | None,
    typer.Option(help="for the local runtime: a Python that has torch and numpy", metavar="PATH"),
]
ImageOption = Annotated[
    str | None,
    typer.Option(help="for containers: this image for every cell", metavar="TAG|FILE.sif"),
]
FailOnOption = Annotated[
    list[str] | None,
    typer.Option(help="fail if NEW is worse by this: 'step_time_ms_p50>5%'", metavar="RULE"),
]
UndecidedOption = Annotated[
    str,
    typer.Option(help="whether a rule passes that the seeds cannot decide", metavar="pass|fail"),
]
FormatOption = Annotated[
    str,
    typer.Option(
        "--format",
        help="how the result is printed: text, markdown, json, junit or annotations",
        metavar="FORMAT",
    ),
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
    typer.Option(
        help="cells at once, each on its own CPUs; auto: as many as fit", metavar="N|auto"
    ),
]
GpusOption = Annotated[
    str,
    typer.Option(
        "--gpus",
        help="GPUs for cuda cells: numbers as nvidia-smi has them, UUIDs, all, or those that are "
        "idle",
        metavar="LIST|idle|all",
    ),
]
WaitOption = Annotated[
    bool, typer.Option("--wait-for-gpu", help="wait until nobody computes on the GPUs asked for")
]
RetryOption = Annotated[
    bool, typer.Option("--retry-failed", help="run cells again that have ended, but not well")
]
DONE_BY = ("kind", "host")
DoneByOption = Annotated[
    str,
    typer.Option(
        help="whose rows make a cell done: of any machine of this kind (the GPU's name, or the "
        "CPU's instruction sets), or of this host alone",
        metavar="kind|host",
    ),
]
TrialsOption = Annotated[
    list[Path] | None,
    typer.Option(help="count trials of this results folder too: another shard's", metavar="DIR"),
]
AcceptOption = Annotated[
    list[str] | None,
    typer.Option(help="count rows of this older code_sha256 as well", metavar="HASH"),
]


# Our signs, for a terminal whose encoding lacks them.
PLAIN = {"✓": "ok", "✗": "x", "↻": "again", "…": "...", "–": "-", "−": "-", "±": "+/-", "×": "x"}


class Outlet(io.FileIO):
    """Where we print. What it does not take is dropped: the disk may be full, a reader gone."""

    lost: OSError | None = None  # why something was dropped, at first

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.lost = self.lost or error
            return len(data)


def print_anywhere() -> Outlet:
    """No line ends a run because it cannot be printed; standard output, which knows what was lost.

    A sign or a file name that a terminal's encoding lacks is printed as a plain one.
    """
    codecs.register_error("bench", _plain)
    # A number that was closed would be that of the next file opened, and print into it.
    while (spare := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(spare)
    sys.stderr, _ = _patient(sys.stderr, 2)
    sys.stdout, outlet = _patient(sys.stdout, 1)
    return outlet


def _patient(stream: TextIO | None, number: int) -> tuple[TextIO, Outlet]:
    """The same stream, by an outlet; None: it was closed."""
    outlet = Outlet(number if stream else os.devnull, "w", closefd=not stream)
    if stream is None:
        outlet.lost = OSError(errno.EBADF, "it is closed")
    patient = io.TextIOWrapper(
        io.BufferedWriter(outlet),
        encoding=stream.encoding if stream else "utf-8",
        errors="bench",
        line_buffering=getattr(stream, "line_buffering", False),
        write_through=getattr(stream, "write_through", False),
    )
    return patient, outlet


def _plain(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # what a stream that is written to meets
    signs = error.object[error.start : error.end]
    return "".join(PLAIN.get(sign, "?") for sign in signs), error.end


def report_builder() -> Callable[[Sequence[Path], Path], Built]:
    """The report's entry, imported on use: plan and run work without matplotlib."""
    with needing_extra("the report"):
        from bench.report.build import build_report
    return build_report


@contextmanager
def needing_extra(what: str, extra: str = "report", install: str = "make setup") -> Iterator[None]:
    """Translates the lack of an extra's package. `install`: the shortest way to have it."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{what} needs {error.name}. Install with: {install}   "
            f"(or: pip install 'bench-matrix[{extra}]')"
        ) from error
