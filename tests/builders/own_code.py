"""A package such as an author would bring, written to a folder outside the repository."""

import csv
import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.border.spec import CellFiles, CorpusRef, RunSpec
from bench.border.tokenised import tokenise
from bench.worker.check import Examine, examine
from tests.builders.shared import ROOT

OPTIMIZER = '''\
import torch


class MyOpt(torch.optim.Optimizer):
    """Signs of the momentum."""

    def __init__(self, params, lr=0.02, betas=(0.9, 0.99)):
        assert isinstance(betas, tuple)
        super().__init__(params, {"lr": lr, "beta": betas[0]})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                momentum = self.state[p].setdefault("momentum", torch.zeros_like(p))
                momentum.lerp_(p.grad, 1 - group["beta"])
                p.add_(momentum.sign(), alpha=-group["lr"])
'''

MODEL = """\
import torch
from torch import nn


class MyModel(nn.Module):
    def __init__(self, vocab_size, block_size, n_embd, dropout):
        super().__init__()
        self.token = nn.Embedding(vocab_size, n_embd)
        self.mix = nn.Parameter(torch.randn(block_size, block_size) / block_size)
        self.register_buffer("past", torch.ones(block_size, block_size).tril())
        self.up = nn.Linear(n_embd, 2 * n_embd)
        self.down = nn.Linear(2 * n_embd, n_embd)
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(n_embd, vocab_size)

    def forward(self, tokens):
        T = tokens.shape[1]
        x = self.token(tokens)
        x = x + (self.mix * self.past)[:T, :T] @ x
        return self.head(x + self.drop(self.down(self.up(x).relu())))


def build(vocab_size, block_size, n_embd=8, dropout=0.1):
    return MyModel(vocab_size, block_size, n_embd, dropout)
"""

MATRIX = """\
name: own
data: {corpus: text.txt}
train: {steps: 6, batch_size: 4, block_size: 8}
eval: {every: 3, train_windows: 4}
matrix: {model: [small], optimizer: [mine], device: [cpu], seed: [1]}
models:
  small: {base: nanokimi, n_embd: 8, n_layer: 1, n_head: 2, n_experts: 2}
  mymodel: {class: my_package.model:build, path: ./my_package, n_embd: 12}
optimizers:
  mine: {class: my_package.opt:MyOpt, path: ./my_package, lr: 0.02}
"""


OWN_PAGE = ROOT / "docs" / "own.md"
FOX = "the quick brown fox jumps over the lazy dog\n" * 91


def write_examples(folder: Path) -> Path:
    """The files and the matrix of docs/own.md, as a person would copy them; the matrix's path."""
    page = OWN_PAGE.read_text(encoding="utf-8")
    (folder / "my_package").mkdir()
    for name, text in re.findall(r"```python\n# (\S+)\n(.*?)```", page, re.DOTALL):
        (folder / name).write_text(text)
    matrix, models = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    (folder / "input.txt").write_text(FOX)
    corpus = f"data: {{corpus: {folder / 'input.txt'}}}\n"
    file = folder / "mine.yaml"
    file.write_text(matrix.replace("[nanogpt]", "[nanogpt, mymodel]") + models + corpus)
    return file


def write_package(folder: Path) -> Path:
    package = folder / "my_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "opt.py").write_text(OPTIMIZER)
    (package / "model.py").write_text(MODEL)
    return package


def write_matrix(folder: Path, *changes: tuple[str, str]) -> Path:
    """own.yaml with its text beside it, and these parts of it replaced."""
    text = folder / "text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    content = MATRIX.replace("text.txt", str(text))
    for before, after in changes:
        assert before in content, before
        content = content.replace(before, after)
    file = folder / "own.yaml"
    file.write_text(content)
    return file


def rows(results: Path) -> list[dict[str, str]]:
    with (results / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


LETTERS = "abcdefghijklmnop" * 60
LETTERS_REF = CorpusRef("letters", hashlib.sha256(LETTERS.encode()).hexdigest())


def checked(spec: RunSpec, look: Examine = examine, **trials: Any) -> Iterator[dict[str, Any]]:
    """What a check finds of a spec that is on LETTERS, in this process; `trials`: of a tuning."""
    with tempfile.TemporaryDirectory() as place:
        files, tokens = CellFiles(Path(place)), Path(place, "letters.tokens")
        files.trials.write_text(json.dumps(trials))
        tokens.write_bytes(tokenise(LETTERS))
        yield from look(files, spec, [tokens], lambda **event: None)
