"""A cell that compiles nothing runs without torch's compiler, and trains as with it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.corpora import find_corpus
from bench.matrix import load_matrix

ROOT = Path(__file__).parent.parent

CELL = """
import json, sys, time
from pathlib import Path
from bench.worker.cell import run_cell
code = run_cell(Path(sys.argv[1]), Path(sys.argv[2]), time.monotonic(), lambda **event: None)
print(json.dumps([code, "torch._dynamo" in sys.modules, "sympy" in sys.modules]))
"""

MATRIX = """\
name: arms
train: {steps: 3, batch_size: 2, block_size: 8}
eval: {every: 2, train_windows: 4}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: [1]
"""


@pytest.mark.parametrize("arm", range(4))
def test_a_cell_does_not_load_the_compiler(tmp_path, tiny_matrix, arm):
    matrix_file = tmp_path / "arms.yaml"
    text = tiny_matrix.parent / "text.txt"
    matrix_file.write_text(f"{MATRIX}data: {{corpus: {text}}}\n")
    matrix = load_matrix(matrix_file)
    corpus = find_corpus(matrix.corpus)
    spec = matrix.with_corpus(corpus.ref).cells[arm].spec
    (tmp_path / "spec.json").write_text(spec.to_json())
    ran = subprocess.run(
        [sys.executable, "-c", CELL, str(tmp_path), str(corpus.store_tokens())],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == [0, False, False]


OPTIMIZER = """
import sys, torch
from bench.worker.eager import leave_out_compiler

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


def test_an_optimizer_of_ones_own_needs_no_compiler_and_one_may_still_be_used():
    ran = subprocess.run(
        [sys.executable, "-c", OPTIMIZER], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
