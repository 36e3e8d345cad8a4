"""Tokens -> batches. Shapes: B sequences of T tokens."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.border.options import DataOptions
from bench.border.tokenised import UTF_32
from bench.worker.streams import numpy_stream

# Characters that are checked at once.
PART = 262_144


@dataclass(frozen=True)
class Tokens:
    """A corpus as token ids, one a character, in splits.

    Narrow where they are mapped from a file, int64 on a GPU; a batch is made int64 as it is drawn.
    """

    train: Tensor  # (n_train,) int32 or int64
    val: Tensor  # (n_val,), likewise
    vocab_size: int
    test: Tensor | None = None  # (n_test,), likewise; None: there is no such split

    def to(self, device: torch.device) -> "Tokens":
        if device.type == "cpu":
            return self
        moved = {name: split.to(device, torch.int64) for name, split in self.splits.items()}
        return Tokens(**moved, vocab_size=self.vocab_size)

    @property
    def splits(self) -> dict[str, Tensor]:
        """Those that there are, by name."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def windows(self, split: str, block_size: int) -> Tensor:
        """Every window of a split, as a view: (positions, T + 1); row p starts at character p."""
        return self.splits[split].unfold(0, block_size + 1, 1)


def read_tokens(path: Path, sha256: str, data: DataOptions) -> Tokens:
    """Map a file of `tokenised`: a token is a character's rank in the sorted distinct ones.

    Raises:
        ValueError: if it does not hold the text with this SHA-256.
    """
    n_items = path.stat().st_size // torch.int32.itemsize
    content = torch.from_file(str(path), size=n_items, dtype=torch.int32)  # private to us
    vocab_size = int(content[0]) if n_items else 0
    vocabulary, ids = content[1 : 1 + vocab_size], content[1 + vocab_size :]
    if not _spell(vocabulary.numpy().view(np.uint32), ids.numpy().view(np.uint32), sha256):
        raise ValueError(
            f"{path} does not hold the tokens of the text with SHA-256 {sha256}, which the cell "
            "was asked for. Run again with --retry-failed: they are stored anew"
        )
    n_train, end = data.bounds(len(ids))
    test = ids[end:] if end < len(ids) else None
    return Tokens(ids[:n_train], ids[n_train:end], vocab_size, test)


def _spell(vocabulary: np.ndarray, ids: np.ndarray, sha256: str) -> bool:
    """Whether ids (n,) into a vocabulary (V,) of code points spell the text with this SHA-256.

    And whether the vocabulary is in order, with no character that the text lacks: then there are
    no other such arrays. Part by part: a copy of the whole would show in the peak of memory.
    """
    total, counts = hashlib.sha256(), np.zeros(len(vocabulary), np.int64)
    try:
        for part in np.split(ids, range(PART, len(ids), PART)):
            total.update(vocabulary[part].tobytes().decode(UTF_32).encode())
            counts += np.bincount(part, minlength=len(vocabulary))
    except (IndexError, UnicodeDecodeError):  # no rank in the vocabulary, no code point
        return False
    in_order = bool((vocabulary[1:] > vocabulary[:-1]).all())
    return total.hexdigest() == sha256 and in_order and bool(counts.all())


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
        values = tensor.detach().to_dense().cpu().resolve_conj().resolve_neg().flatten()
        # As bytes, since numpy has no bfloat16.
        total.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:12]
