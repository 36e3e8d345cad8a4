"""A small matrix that is tuned, its cells by their part, and rows of its trials."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.errors import MatrixError
from bench.matrix.expansion import Matrix, load_matrix
from bench.records.cells import Cell
from bench.records.rows import Row

TEXT = "the quick brown fox jumps over the lazy dog\n" * 91
CONTENT: dict[str, Any] = {
    "name": "tuned",
    "train": {"steps": 4, "batch_size": 2, "block_size": 8},
    "eval": {"every": 4, "train_windows": 4},
    "matrix": {
        "model": ["small"],
        "optimizer": ["adamw", "truemuon"],
        "device": ["cpu"],
        "seed": [1, 2],
    },
    "models": {"small": {"base": "nanogpt", "n_embd": 8, "n_layer": 1, "n_head": 2}},
    "tune": {
        "trials": 2,
        "seeds": [101],
        "space": {"lr": {"log": [1e-4, 1e-1]}, "adamw_lr": [1e-2]},
    },
}


def write(folder: Path, **changed: Any) -> Path:
    """A matrix with two arms, two seeds, two trials; keys of `tune` may be given by themselves."""
    content = json.loads(json.dumps(CONTENT))
    data = changed.pop("data", {})
    for key, value in changed.items():
        of_matrix = key in content or key in ("claim", "optimizers")
        (content if of_matrix else content["tune"])[key] = value
    text = folder / "text.txt"
    text.write_text(TEXT)
    content["data"] = {"corpus": str(text)} | data
    file = folder / "tuned.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def mistakes(file: Path) -> list[str]:
    with pytest.raises(MatrixError) as error:
        load_matrix(file)
    return [f"{one.line}:{one.where}: {one.what}" for one in error.value.mistakes]


def parts(matrix: Matrix) -> dict[str, list[Cell]]:
    found: dict[str, list[Cell]] = {"": [], "trial": [], "tuned": []}
    for cell in matrix.cells:
        found[cell.part].append(cell)
    return found


def row_of(cell: Cell, loss: float | None = None, status: str = "ok") -> Row:
    return {
        "run_id": cell.spec.run_id,
        "status": status,
        "val_loss_final": "" if loss is None else repr(loss),
    }
