"""A matrix of a small program, as files, and ways to break one line of it."""

from pathlib import Path

from tests.builders.matrices import broken

# Trains in no time, and prints as trainers do; {seed} reaches it by a replacement.
SCRIPT = """\
import argparse
import os
from pathlib import Path

SEED = 1337
parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int)
parser.add_argument("--out", type=Path)
asked = parser.parse_args()
steps = int(Path("conf/run.cfg").read_text().split()[-1])
text = Path("data/text/a.txt").read_text()
for step in range(1, steps + 1):
    loss = 4 / (1 + asked.lr * step) + SEED / 1000
    print(f"step {step} loss {loss:.6f}")
print(f"val {loss + 0.5:.6f} bpb {loss / 2 + len(text):.6f}")
(asked.out / "model.pt").write_text(os.environ["MODE"])
"""

MATRIX = r"""name: mine
program:
  path: ./prog
  ignore: ["*.pt"]
  command: [python, train.py, "--lr={lr}", "--layers={n_layer}", "--out={out}"]
  replace: {train.py: {"SEED = 1337": "SEED = {seed}"}}
  files:
    conf/run.cfg: "steps = {steps}"
  environment: {MODE: "{mode}"}
  data: {text: ./texts}
  read:
    - 'step (?P<step>\d+) loss (?P<loss>\S+)'
    - 'val (?P<val_loss>\S+) bpb (?P<val_bpb>\S+)'
  metrics: {val_bpb: {better: lower}}
  steps: 10
matrix: {model: [small], optimizer: [slow, fast], device: [cpu], seed: [1, 2]}
models: {small: {n_layer: 4, mode: plain}}
optimizers:
  slow: {lr: 0.25}
  fast: {lr: 0.5}
claim: {baseline: {model: small, optimizer: slow}, metric: val_bpb, margin: 0.01}
"""
END = MATRIX.count("\n") + 1  # the line of what is appended


def write_files(folder: Path, script: str = SCRIPT) -> None:
    """What MATRIX names: the program, and a folder of data."""
    for name, content in {"prog/train.py": script, "texts/a.txt": "abc"}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)


def write_program(folder: Path, *changes: tuple[str, str], script: str = SCRIPT) -> Path:
    """All files, and the matrix with changes; the matrix's path."""
    write_files(folder, script)
    file = folder / "mine.yaml"
    file.write_text(changed(*changes))
    return file


def changed(*changes: tuple[str, str]) -> str:
    """MATRIX, with each of these texts, which stands there once, in place of another."""
    text = MATRIX
    for before, after in changes:
        text = broken(before, after, text)
    return text
