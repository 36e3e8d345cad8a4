"""Matrix texts that are right, ways to break one line of them, and what loading them says."""

from pathlib import Path

import pytest

import bench
from bench.errors import MatrixError
from bench.matrix.expansion import Matrix, load_matrix

SHIPPED = sorted((Path(bench.__file__).parent / "matrix").glob("*.yaml"))

# Every section once; the tests below break one line of it at a time.
SOUND = """\
name: trial
data: {corpus: input.txt}
train: {steps: 100, threads: 2}
eval: {every: 10}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1, 2, 3]
exclude:
  - {model: nanogpt, seed: 3}
include:
  - {model: nanokimi-8, optimizer: adamw, device: cpu, seed: 4}
models:
  nanokimi-8: {base: nanokimi, n_experts: 8}
optimizers:
  slow: {base: adamw, lr: 3.0e-4}
limits: {timeout_s: 60, cpus: 2}
claim:
  baseline: {model: nanogpt, optimizer: adamw}
  metric: val_loss_final
  margin: 0.01
"""
END = SOUND.count("\n") + 1  # the line of what is appended

MINIMAL = """\
name: small
matrix: {model: [nanogpt], optimizer: [adamw], device: [cpu], seed: [7]}
"""


def load(folder: Path, text: str | bytes) -> Matrix:
    file = folder / "matrix.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return load_matrix(file)


def refusal(folder: Path, text: str | bytes) -> MatrixError:
    with pytest.raises(MatrixError) as caught:
        load(folder, text)
    return caught.value


def broken(old: str, new: str, source: str = SOUND) -> str:
    assert source.count(old) == 1, f"{old!r} is not one place of the sound matrix"
    return source.replace(old, new)


def cells_of(matrix: Matrix) -> list[tuple[str, str, str, int]]:
    return [
        (spec.model.name, spec.optimizer.name, spec.device, spec.seed)
        for spec in (cell.spec for cell in matrix.cells)
    ]
