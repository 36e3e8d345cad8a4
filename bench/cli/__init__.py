"""The commands. The only place that prints and exits; it never imports torch."""

import os
import sys

import typer

from bench.border.surroundings import MEDDLING
from bench.cli.calibrating import calibrate
from bench.cli.common import INTERRUPTED, NOT_ALL_OK, OK, WRONG_REQUEST, err, print_anywhere
from bench.cli.here import check, doctor, image, schema
from bench.cli.importing import import_runs
from bench.cli.original import original
from bench.cli.publishing import site
from bench.cli.reports import ab, bundle, compare, report, verify
from bench.cli.running import plan, run
from bench.cli.submitting import status, submit, task
from bench.cli.tokenising import tokenise
from bench.errors import BenchError, StoppedError

app = typer.Typer(
    name="bench",
    help="A benchmark harness for models and optimizers whose conclusions hold.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ON_A_MATRIX = (plan, run, submit, original, check, ab, calibrate)
ON_RESULTS = (status, report, compare, bundle, verify, site)
# What they are for is on the disk as they end; of all others it is what they print.
LASTING = (run, task, original, ab, calibrate, bundle, image, site, tokenise)
LEAVING = {command.__name__ for command in LASTING} | {"import"}
for command in (*ON_A_MATRIX, *ON_RESULTS, tokenise, doctor, image, schema):
    app.command()(command)
app.command("import")(import_runs)
app.command(hidden=True)(task)  # what a job runs, never a person


def main() -> None:
    if [name for name in MEDDLING if os.environ.pop(name, "")]:  # Python has read them: anew
        os.execv(sys.executable, sys.orig_argv)
    os.environ.pop("MPLBACKEND", None)  # a notebook's: its own Python may have what it names
    outlet = print_anywhere()
    code = _run_command()
    sys.stdout.flush()
    if outlet.lost and LEAVING.isdisjoint(sys.argv[1:2]):
        err.print(f"error: not all could be printed to standard output: {outlet.lost.strerror}")
        code = code or NOT_ALL_OK
    sys.exit(code)


def _run_command() -> int:
    """The exit code of the command that was typed."""
    try:
        app()
    except SystemExit as ended:
        return int(ended.code or OK)
    except StoppedError as error:
        err.print(str(error))
        return INTERRUPTED
    except BenchError as error:
        err.print(f"error: {error}")
        return WRONG_REQUEST
    return OK
