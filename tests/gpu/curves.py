"""Losses of the plain implementation on a CPU, which runs on a GPU are held against.

`python -m tests.gpu.curves` writes them anew into curves.csv beside this file, some five minutes
on one CPU: for each arm and step the loss, and how far runs whose weights are moved by their last
place have strayed from it so far (tests/builders/twins.py). To do after a change of what the arms
compute, and at no other time. So a machine with a GPU needs no twins of its own. The text is that
of tests/builders/words.py, since `pydoc` is another one in each version of Python.
"""

import csv
from pathlib import Path

import torch

from tests.builders.twins import ARMS, Point, plain_curve
from tests.builders.words import word_tokens

FILE = Path(__file__).with_suffix(".csv")
HEAD = ("model", "optimizer", "step", "loss", "envelope")


def main() -> None:
    torch.set_num_threads(1)
    lines = [
        (model, optimizer, step, f"{loss:.9g}", f"{envelope:.3g}")
        for model, optimizer in ARMS
        for step, (loss, envelope) in enumerate(plain_curve(model, optimizer, word_tokens()))
    ]
    with FILE.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEAD, *lines])


def stored(model: str, optimizer: str) -> list[Point]:
    """Step by step: the loss, and how far from it is near."""
    with FILE.open(newline="") as file:
        return [
            (float(line["loss"]), float(line["envelope"]))
            for line in csv.DictReader(file)
            if (line["model"], line["optimizer"]) == (model, optimizer)
        ]


if __name__ == "__main__":
    main()
