"""A training of our own, as one would script it with the worker's parts; losses as JSON lines.

train.py TEXT OPTIMIZER SEED STEPS: `bench` lies beside it.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch

from bench.border.logical import initialise
from bench.border.options import MODEL_OPTIONS, OPTIMIZER_OPTIONS, DataOptions, EvalOptions
from bench.border.tokenised import tokenise
from bench.worker.data import read_tokens
from bench.worker.evaluation import Evaluator, cross_entropy
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.streams import torch_stream

B, T, EVERY = 4, 16, 10
text, optimizer, seed, steps = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(1)

content = Path(text).read_bytes()
file = Path("tokens")
file.write_bytes(tokenise(content.decode()))
tokens = read_tokens(file, hashlib.sha256(content).hexdigest(), DataOptions())

options = MODEL_OPTIONS["nanogpt"](n_embd=16, n_layer=1, n_head=2)
model = MODELS["nanogpt"](options, tokens.vocab_size, T)
initialise(model.stacks(), lambda name: torch_stream(seed, "weights", name))
optimizers = OPTIMIZERS[optimizer].build(model.stacks(), OPTIMIZER_OPTIONS[optimizer]())

windows = tokens.windows("train", T)
evaluator = Evaluator(tokens, EvalOptions(every=EVERY), B, T, seed)
table = BatchPositions(seed, steps, B, len(windows))


def evaluate(step):
    model.eval()
    losses = {f"{split}_loss": evaluator.loss(model, split, step) for split in ("train", "val")}
    model.train()
    print(json.dumps({"step": step, **losses}))


for step, positions in enumerate(table):
    if step % EVERY == 0:
        evaluate(step)
    batch = windows.at(positions)
    loss = cross_entropy(model(batch[:, :-1]), batch[:, 1:])
    loss.backward()
    for each in optimizers:
        each.step()
        each.zero_grad()
    print(json.dumps({"step": step + 1, "loss": loss.item()}))
evaluate(steps)
