"""A trainer in the shape of KellerJordan/modded-nanogpt and his airbench, written for the tests.

A script an optimizer, no argument but a number of trials, which one process makes, nothing seeded,
and a log of its own in logs/UUID.txt, which begins with the script's source.
"""

import os
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

STEPS, EVERY, B, T, WIDTH, VOCABULARY = 20, 10, 8, 16, 16, 64
MAGIC = 20240520  # first number of a shard's header of 256 numbers; the third one counts its tokens


def tokens_of(pattern):
    path = os.path.join("data", "fineweb10B", pattern)
    header = np.fromfile(path, dtype=np.int32, count=256)
    assert header[0] == MAGIC, path
    tokens = np.fromfile(path, dtype=np.uint16, offset=256 * 4)
    assert len(tokens) == header[2], path
    return torch.from_numpy(tokens.astype(np.int64))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.mix = nn.Parameter(torch.randn(2 * WIDTH, WIDTH) / WIDTH)
        self.up = nn.Parameter(torch.randn(WIDTH, 4 * WIDTH) / WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        nn.init.zeros_(self.head.weight)

    def matrices(self):
        return [self.mix, self.up]

    def forward(self, inputs, targets):
        x = self.embed(inputs)
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]
        x = x + torch.tanh(torch.cat([x, before], dim=-1) @ self.mix)
        x = x + F.relu(x @ self.up).square() @ self.up.T
        return F.cross_entropy(self.head(x).flatten(0, 1), targets.flatten())


def batch(tokens):
    starts = torch.randint(len(tokens) - T, (B, 1))
    rows = tokens[starts + torch.arange(T + 1)]
    return rows[:, :-1], rows[:, 1:]


def main(source, build_optimizers):
    trials = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    os.makedirs("logs", exist_ok=True)
    logfile = os.path.join("logs", f"{uuid.uuid4()}.txt")
    with open(logfile, "w") as log:
        log.write(Path(source).read_text())
    train, val = tokens_of("fineweb_train_000001.bin"), tokens_of("fineweb_val_000000.bin")

    def print0(text):
        print(text)
        with open(logfile, "a") as log:
            log.write(text + "\n")

    for _ in range(trials):
        run(build_optimizers, train, val, print0)


def run(build_optimizers, train, val, print0):
    model = Model()
    optimizers = build_optimizers(model)
    training_time = 0.0
    t0 = time.perf_counter()
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            training_time += time.perf_counter() - t0
            with torch.no_grad():
                val_loss = torch.stack([model(*batch(val)) for _ in range(8)]).mean()
            print0(f"step:{step}/{STEPS} val_loss:{val_loss:.4f} {times(training_time, step)}")
            t0 = time.perf_counter()
        if step == STEPS:
            return
        model(*batch(train)).backward()
        for optimizer in optimizers:
            optimizer.step()
        model.zero_grad(set_to_none=True)
        print0(
            f"step:{step + 1}/{STEPS} {times(training_time + time.perf_counter() - t0, step + 1)}"
        )


def times(seconds, step):
    return f"train_time:{1000 * seconds:.0f}ms step_avg:{1000 * seconds / max(step, 1):.2f}ms"
