"""Runs of small programs by the commands, in one process, and what they leave."""

import contextlib
import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any
from unittest import mock

from bench.cli import _run_command
from bench.records.rows import Row, read_table

MATRIX = """\
name: runs
program:
  path: ./prog
  command: [python, main.py, {arguments}]
  read:
    - 'step (?P<step>\\d+) loss (?P<loss>\\S+)'
    - 'val (?P<val_loss>\\S+)'
{program}
matrix: {{model: [small], optimizer: {optimizers}, device: [cpu], seed: {seeds}}}
limits: {{timeout_s: {timeout_s}, retries: {retries}}}
"""


@dataclass
class Said:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


def command(*words: str | Path) -> Said:
    """A command as it is typed, without another Python that imports all of it again."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch("sys.argv", ["bench", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = _run_command()
    return Said(code, out.getvalue(), err.getvalue())


@dataclass
class Scripted:
    """A script with its matrix in a folder, and its results."""

    folder: Path
    script: str
    program: str = ""  # further lines of the section
    arguments: str = '"{optimizer}", "{seed}"'
    optimizers: str = "[plain]"
    seeds: str = "[1, 2]"
    timeout_s: float = 60
    retries: int = 0
    more: str = ""  # further sections

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def matrix(self) -> Path:
        return self.folder / "runs.yaml"

    def write(self) -> Path:
        main = self.folder / "prog" / "main.py"
        main.parent.mkdir(exist_ok=True)
        main.write_text(dedent(self.script))
        lines = dedent(self.program).strip("\n").splitlines()
        text = MATRIX.format(
            program="\n".join(f"  {line}" for line in lines),
            arguments=self.arguments,
            optimizers=self.optimizers,
            seeds=self.seeds,
            timeout_s=self.timeout_s,
            retries=self.retries,
        )
        self.matrix.write_text(text + self.more)
        return self.matrix

    def run(self, *options: str) -> Said:
        return command(
            "run", self.write(), "--out", self.out, "--runtime", "local", "--jobs", "1", *options
        )

    def rows(self) -> list[Row]:
        return read_table(self.out / "runs.csv")

    def ends(self) -> list[tuple[str, str, str]]:
        """(seed, attempt, status) of each row."""
        return [(row["seed"], row["attempt"], row["status"]) for row in self.rows()]

    def cell(self, row: Row) -> Path:
        return self.out / "cells" / f"{row['run_id']}-{row['attempt']}"

    def result(self, row: Row) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.cell(row) / "result.json").read_text())
        return content

    def curve(self, row: Row) -> list[tuple[str, str, str]]:
        """(step, training loss, validation loss) of the points of curves.csv."""
        which = (row["run_id"], row["attempt"])
        with (self.out / "curves.csv").open() as file:
            return [
                (point["step"], point["train_loss"], point["val_loss"])
                for point in csv.DictReader(file)
                if (point["run_id"], point["attempt"]) == which
            ]
