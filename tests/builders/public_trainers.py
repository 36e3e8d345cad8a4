"""Stand-ins for public trainers, each with the matrix that docs/programs.md has for it.

The programs are in trainers/, as they are; a matrix is the page's own, but for the device and for
where its data lie.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.builders.own_code import FOX
from tests.builders.shared import ROOT

PAGE = (ROOT / "docs" / "programs.md").read_text(encoding="utf-8")
PROGRAMS = Path(__file__).parent / "trainers"
MAGIC = 20240520  # of a shard of modded-nanogpt

Changes = tuple[tuple[str, str], ...]

# Name of a matrix -> the program of ours, where the matrix looks for it, what is other here.
ON_CPU = ("device: [cuda]", "device: [cpu]")
TRAINERS: dict[str, tuple[str, str, Changes]] = {
    "nanogpt": ("like_nanogpt", "nanoGPT", (ON_CPU,)),
    "nanochat": ("like_nanochat", "nanochat", (ON_CPU, ("~/.cache/nanochat", "./base"))),
    "modded-nanogpt": ("like_modded_nanogpt", "modded-nanogpt", (ON_CPU, ("  gpus: 8\n", ""))),
}


def recipes() -> dict[str, str]:
    """The matrices of the page by name, which a comment in their first line tells."""
    blocks = re.findall(r"```yaml\n# (\S+)\.yaml\n(.*?)```", PAGE, re.DOTALL)
    return dict(blocks)


def write_trainer(folder: Path, name: str, *changes: tuple[str, str]) -> Path:
    """A trainer, its data and its matrix, changed; the matrix's path."""
    source, place, own = TRAINERS[name]
    shutil.copytree(PROGRAMS / source, folder / place)
    write_data(folder, name)
    text = recipes()[name]
    for before, after in (*own, *changes):
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    file = folder / f"{name}.yaml"
    file.write_text(text)
    return file


def write_data(folder: Path, name: str) -> None:
    """What each trainer asks a user to prepare."""
    if name == "nanogpt":
        prepare = folder / "nanoGPT" / "data" / "shakespeare_char" / "prepare.py"
        subprocess.run([sys.executable, prepare], check=True)
    elif name == "nanochat":
        shards = folder / "base" / "base_data"
        shards.mkdir(parents=True)
        for number in range(3):
            (shards / f"shard_{number:05d}.txt").write_text(FOX)
    else:
        shards = folder / "modded-nanogpt" / "data" / "fineweb10B"
        shards.mkdir(parents=True)
        tokens = np.frombuffer(FOX.encode(), np.uint8).astype(np.uint16) % 64
        write_shard(shards / "fineweb_train_000001.bin", tokens)
        write_shard(shards / "fineweb_val_000000.bin", tokens[:600])


def write_shard(file: Path, tokens: np.ndarray) -> None:
    """A header of 256 int32 (magic, version, number of tokens), then the tokens as uint16."""
    header = np.zeros(256, np.int32)
    header[:3] = MAGIC, 1, len(tokens)
    file.write_bytes(header.tobytes() + tokens.tobytes())
