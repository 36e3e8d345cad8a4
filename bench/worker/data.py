"""Text -> tokens -> batches. Shapes: B sequences of T tokens."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.options import TRAIN_SHARE
from bench.worker.streams import numpy_stream


@dataclass(frozen=True)
class Tokens:
    """A corpus as token ids, one a character: the first 90 % train."""

    train: Tensor  # (n_train,) int64
    val: Tensor  # (n_val,) int64
    vocab_size: int

    def to(self, device: torch.device) -> "Tokens":
        return Tokens(self.train.to(device), self.val.to(device), self.vocab_size)

    def windows(self, split: str, block_size: int) -> Tensor:
        """Every window of a split, as a view: (positions, T + 1); row p starts at character p."""
        return (self.train if split == "train" else self.val).unfold(0, block_size + 1, 1)


def read_tokens(path: Path, sha256: str) -> Tokens:
    """Vocabulary = the sorted distinct characters; a token is a character's rank in it.

    Raises:
        ValueError: if the file's content is not the one that was asked for.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"the corpus has SHA-256 {found}, the cell was asked for {sha256}")
    characters = np.frombuffer(content.decode("utf-8").encode("utf-32-le"), dtype="<u4")
    vocabulary, ids = np.unique(characters, return_inverse=True)
    tokens = torch.from_numpy(ids.astype(np.int64))
    n_train = int(TRAIN_SHARE * len(tokens))
    return Tokens(tokens[:n_train], tokens[n_train:], len(vocabulary))


def batch_positions(seed: int, steps: int, batch_size: int, n_windows: int) -> Tensor:
    """Where each sequence of each step starts: (steps, B) int64, from the seed alone.

    Row by row from one stream: the first steps of a longer run are those of a shorter one.
    """
    table = numpy_stream(seed, "batches").integers(0, n_windows, size=(steps, batch_size))
    return torch.from_numpy(table)


def hash_tensor(*tensors: Tensor) -> str:
    """12 hex digits of the SHA-256 over the values."""
    total = hashlib.sha256()
    for tensor in tensors:
        total.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return total.hexdigest()[:12]
