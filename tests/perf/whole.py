"""One arm's whole job in full, the original's way and as a cell: `python -m tests.perf.whole`.

10,000 iterations with their evaluations on tinyshakespeare, one after the other: several minutes
each. It checks what `make perf` composes from parts. No start-up is counted on either side.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.records.corpora import find_corpus
from tests.perf.place import Place

EVERY, STEPS = 100, 10_000
MATRIX = """\
name: whole
data: {corpus: tinyshakespeare}
train: {steps: 10000, threads: THREADS}
eval: {every: 100, protocol: full}
matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], seed: [1]}
"""


def original_s(model: str, optimizer: str) -> float:
    from bench.worker.positions import BatchPositions
    from tests.perf.arms import SEED, TRAIN, Theirs, tokens_of

    text = find_corpus("tinyshakespeare").store().read_text(encoding="utf-8")
    tokens = tokens_of(text)
    theirs = Theirs(model, optimizer, tokens)
    n_windows = len(tokens.windows("train", TRAIN.block_size))
    theirs.positions = iter(BatchPositions(SEED, STEPS, TRAIN.batch_size, n_windows))
    begin = time.monotonic()
    for step in range(STEPS + 1):
        if step % EVERY == 0:
            losses = theirs.program.evaluate()
            print(f"original, step {step}: {losses}", file=sys.stderr)
        if step < STEPS:
            theirs.step()
    return time.monotonic() - begin


def ours_s(model: str, optimizer: str, threads: int, runtime: str) -> float:
    with tempfile.TemporaryDirectory(prefix="bench-perf-whole-") as folder:
        matrix = MATRIX.replace("THREADS", str(threads))
        place = Place(runtime, Path(folder) / "place", matrix, threads)
        row = place.cell_row(place.job(model, optimizer))
    print(f"ours: {row['val_loss_final']} after {row['steps']} steps", file=sys.stderr)
    seconds: float = row["train_time_s"] + row["eval_time_s"]
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", nargs="?", default="nanogpt")
    parser.add_argument("optimizer", nargs="?", default="adamw")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runtime", default="auto")
    asked = parser.parse_args()
    ours = ours_s(asked.model, asked.optimizer, asked.threads, asked.runtime)
    original = original_s(asked.model, asked.optimizer)
    print(
        f"{asked.model} + {asked.optimizer}: original {original:.0f} s, ours {ours:.0f} s with "
        f"{asked.threads} threads: {original / ours:.2f} x"
    )


if __name__ == "__main__":
    main()
