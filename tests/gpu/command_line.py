"""Cells from the command line, as a person types them: each takes 7 to 9 s of start with a GPU."""

import csv
import json
from pathlib import Path
from typing import Any

from bench.records.rows import Row, read_table
from tests.builders.shared import bench


def matrix(folder: Path, arm: str, device: str = "cuda", **sections: str) -> Path:
    """A matrix of one cell; arm: model+optimizer; sections as YAML flow mappings."""
    model, optimizer = arm.split("+")
    axes = f"model: [{model}], optimizer: [{optimizer}], device: [{device}], seed: [1]"
    lines = [
        "name: gpu-test",
        "data: {corpus: pydoc}",
        f"matrix: {{{axes}}}",
        *(f"{name}: {{{settings}}}" for name, settings in sections.items()),
    ]
    file = folder / f"{len(list(folder.iterdir()))}.yaml"
    file.write_text("\n".join(lines) + "\n")
    return file


def run(file: Path, exits: int = 0) -> Row:
    """The row of a matrix's cell, run as a local process."""
    out = file.with_suffix("")
    # The tests' own process may compute on the GPU, or one that a test has started.
    ran = bench("run", file, "--runtime", "local", "--gpus", "all", "--out", out, timeout_s=500)
    assert ran.returncode == exits, ran.stdout + ran.stderr
    (row,) = read_table(out / "runs.csv")
    return row


def folder_of(file: Path, row: Row) -> Path:
    """Where the cell left its files."""
    return file.with_suffix("") / Path(row["log_path"]).parent


def losses(file: Path, row: Row) -> dict[int, float]:
    """Step -> loss before it, as far as steps were timed one by one or ended a launch."""
    with (folder_of(file, row) / "steps.csv").open(newline="") as lines:
        return {int(line["step"]): float(line["loss"]) for line in csv.DictReader(lines)}


def result(file: Path, row: Row) -> dict[str, Any]:
    return json.loads((folder_of(file, row) / "result.json").read_text())
