"""Cells on a GPU through the command line, for several tests."""

import csv
from pathlib import Path

from bench.records.rows import Row, read_table
from tests.builders.shared import bench

Arm = tuple[str, str]  # model, optimizer


ALL = "nanogpt, nanokimi+adamw, truemuon"


def matrix(folder: Path, arms: str = ALL, device: str = "cuda", **sections: str) -> Path:
    """A matrix of one seed; arms: models + optimizers; sections as YAML flow mappings."""
    model, optimizer = arms.split("+")
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


def run(file: Path, exits: int = 0) -> list[Row]:
    """The rows of a matrix, run as local processes."""
    out = file.with_suffix("")
    ran = bench("run", file, "--runtime", "local", "--out", out, timeout_s=500)
    assert ran.returncode == exits, ran.stdout + ran.stderr
    return read_table(out / "runs.csv")


def losses(file: Path, row: Row) -> dict[int, float]:
    """Step -> loss before it, as far as steps were timed one by one or ended a launch."""
    folder = file.with_suffix("") / Path(row["log_path"]).parent
    with (folder / "steps.csv").open(newline="") as lines:
        return {int(line["step"]): float(line["loss"]) for line in csv.DictReader(lines)}


def arm(row: Row) -> Arm:
    return row["model"], row["optimizer"]
