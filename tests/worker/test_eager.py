"""A cell that compiles nothing runs without torch's compiler, and trains as with it."""

import subprocess
import sys
from pathlib import Path

import pytest

from bench.matrix.expansion import load_matrix
from bench.records.corpora import find_corpus

ROOT = Path(__file__).parents[2]

CELLS = """
import sys, time
from pathlib import Path
from bench.worker.cell import run_cell
tokens, *folders = map(Path, sys.argv[1:])
for folder in folders:
    assert run_cell(folder, [tokens], time.monotonic(), lambda **event: None) == 0
assert "torch._dynamo" not in sys.modules
"""

MATRIX = """\
name: arms
train: {steps: 3, batch_size: 2, block_size: 8}
eval: {every: 2, train_windows: 4}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, sgd, truemuon, muon, muon-rms, muonclip]
  device: [cpu]
  seed: [1]
"""


@pytest.mark.slow
def test_no_cell_loads_the_compiler(tmp_path: Path, tiny_matrix: Path) -> None:
    matrix_file = tmp_path / "arms.yaml"
    text = tiny_matrix.parent / "text.txt"
    matrix_file.write_text(f"{MATRIX}data: {{corpus: {text}}}\n")
    matrix = load_matrix(matrix_file)
    corpus = find_corpus(matrix.corpus)
    cells = matrix.with_corpus(corpus.ref).cells
    folders = [tmp_path / str(number) for number in range(len(cells))]
    for folder, cell in zip(folders, cells, strict=True):
        folder.mkdir()
        (folder / "spec.json").write_text(cell.spec.to_json())
    ran = run(CELLS, corpus.store_tokens(), *folders)
    assert ran.returncode == 0, ran.stderr


OPTIMIZER = """
import sys, torch
from bench.worker.arithmetic import leave_out_compiler

class Sign(torch.optim.Optimizer):
    def __init__(self, parameters):
        super().__init__(parameters, {"lr": 0.1})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.sub_(group["lr"] * parameter.grad.sign())

leave_out_compiler()
parameter = torch.nn.Parameter(torch.ones(3))
optimizer = Sign([parameter])
for _ in range(2):
    (parameter * parameter).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
assert "torch._dynamo" not in sys.modules
assert torch.allclose(parameter, torch.full((3,), 0.8)) and parameter.grad is None

compiled = torch.compile(lambda x: x + 1, backend="eager")
assert compiled(parameter).tolist() == (parameter + 1).tolist()
assert "torch._dynamo" in sys.modules
(parameter * parameter).sum().backward()
optimizer.add_param_group({"params": [torch.nn.Parameter(torch.ones(1))]})
optimizer.zero_grad()
assert parameter.grad is None
"""


WATCHED = """
import sys, torch
from bench.worker.arithmetic import leave_out_compiler
from bench.worker.repeats import Reads

leave_out_compiler()
place = torch.ones(3)
with Reads(place.device) as reads:
    place + 1
assert place.untyped_storage().data_ptr() in reads.addresses
assert "torch._dynamo" not in sys.modules
"""


def test_what_watches_a_step_before_graphs_are_captured_needs_no_compiler() -> None:
    ran = run(WATCHED)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.slow
def test_an_optimizer_of_ones_own_needs_no_compiler_and_one_may_still_be_used() -> None:
    ran = run(OPTIMIZER)
    assert ran.returncode == 0, ran.stderr


def run(code: str, *arguments: Path) -> subprocess.CompletedProcess[str]:
    """A process that has loaded nothing yet."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
