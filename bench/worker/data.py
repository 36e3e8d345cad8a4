"""The tokens of a corpus, as a cell maps them and has them on its device."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bench.border.options import DataOptions
from bench.border.spec import CorpusRef, TokenFile
from bench.border.tokenised import UTF_32
from bench.worker.windows import CPU, JoinedWindows, MappedWindows, Windows

# Characters that are checked at once.
PART = 262_144
# Of a GPU's memory, what a corpus may take: the rest is for the model, its optimizer and what it
# computes with.
DEVICE_SHARE = 1 / 4


@dataclass(frozen=True)
class Split:
    """The tokens of a split: of each file one tensor, or of all of them one.

    (n,) each: int32 of a text, which a GPU has as int64; int16 with the bits of uint16 of files.
    """

    tensors: tuple[Tensor, ...]
    lengths: tuple[int, ...]  # tokens of each file

    @classmethod
    def of(cls, *files: Tensor) -> "Split":
        return cls(files, tuple(len(each) for each in files))

    @property
    def dtype_on_gpu(self) -> torch.dtype:
        return torch.int16 if self.tensors[0].dtype == torch.int16 else torch.int64

    @property
    def bytes_on_gpu(self) -> int:
        return self.dtype_on_gpu.itemsize * sum(self.lengths)

    def on(self, device: torch.device) -> "Split":
        """The same in one piece, in the memory of a GPU."""
        whole = torch.empty(sum(self.lengths), dtype=self.dtype_on_gpu, device=device)
        for place, each in zip(whole.split(self.lengths), self.tensors, strict=True):
            place.copy_(each)
        return Split((whole,), self.lengths)

    def first(self, most: int) -> "Split":
        """Of its first file the first tokens."""
        file = self.tensors[0][: min(most, self.lengths[0])]
        return Split((file,), (len(file),))


@dataclass(frozen=True)
class Tokens:
    """A corpus as token ids in splits, "test" only where there is one.

    Narrow where they are mapped from a file; a batch is made int64 as it is drawn.
    """

    splits: dict[str, Split]
    vocab_size: int
    device: torch.device = CPU  # where batches are wanted

    def to(self, device: torch.device, memory_bytes: int) -> "Tokens":
        """For batches on this device, which has so much memory: in it, if they are not too large.

        Else the host keeps them. On the host nothing is to be done.
        """
        if device.type == "cpu":
            return self
        splits = self.splits
        if sum(split.bytes_on_gpu for split in splits.values()) <= DEVICE_SHARE * memory_bytes:
            splits = {name: split.on(device) for name, split in splits.items()}
        return Tokens(splits, self.vocab_size, device)

    @property
    def are_on_device(self) -> bool:
        """Whether they lie in the memory of the device that computes with them."""
        return all(each.device.type == self.device.type for each in self.splits["train"].tensors)

    @property
    def lie_on(self) -> str:
        """For the row: in a GPU's memory (device), or mapped (host)."""
        return "device" if self.device.type == "cuda" and self.are_on_device else "host"

    def windows(self, split: str, block_size: int) -> Windows:
        """Every window of T + 1 tokens of a split."""
        tensors, lengths = self.splits[split].tensors, self.splits[split].lengths
        if self.are_on_device and len(tensors) == 1:
            return JoinedWindows(tensors[0], lengths, block_size)
        return MappedWindows(tensors, block_size, self.device)


def placed(tokens: Tokens, device: torch.device, memory_bytes: int, graph_steps: int) -> Tokens:
    """Tokens for batches on a device of so much memory, as `to` has them.

    Raises:
        ValueError: where they stay on the host, and graphs of steps would have to find them.
    """
    found = tokens.to(device, memory_bytes)
    if graph_steps and not found.are_on_device:
        n_bytes = sum(split.bytes_on_gpu for split in tokens.splits.values())
        raise ValueError(
            f"train.graph_steps needs the tokens in the GPU's memory, and their {n_bytes:,} bytes "
            f"are more than a share of {DEVICE_SHARE:g} of its {memory_bytes:,}: they stay on the "
            "host. Leave out train.graph_steps, or train on fewer tokens"
        )
    return found


def read_corpus(paths: Sequence[Path], corpus: CorpusRef, data: DataOptions) -> Tokens:
    """Map what a cell is to read: the one file of a text's tokens, or the files of its spec.

    Raises:
        ValueError: if that is not what is there.
    """
    if corpus.tokens is None:
        (path,) = paths
        return read_tokens(path, corpus.sha256, data)
    found: dict[str, list[Tensor]] = {}
    for path, file in zip(paths, corpus.tokens.files, strict=True):
        found.setdefault(file.split, []).append(_mapped(path, file))
    splits = {name: Split.of(*files) for name, files in found.items()}
    return Tokens(splits, corpus.tokens.vocab_size)


def _mapped(path: Path, file: TokenFile) -> Tensor:
    """The tokens of a file: (n,) int16 with the bits of uint16. Only its header is read."""
    item = torch.int16.itemsize
    with path.open("rb") as opened:
        header = hashlib.sha256(opened.read(file.offset)).hexdigest()
    if path.stat().st_size != file.offset + item * file.count or header != file.header_sha256:
        raise ValueError(
            f"{path} does not hold the {file.count:,} tokens that were there when the cell was "
            "planned. Run again with --retry-failed: its files are read anew"
        )
    before = file.offset // item
    content = torch.from_file(str(path), size=before + file.count, dtype=torch.int16)
    return content[before:]


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
    splits = {"train": Split.of(ids[:n_train]), "val": Split.of(ids[n_train:end])}
    if end < len(ids):
        splits["test"] = Split.of(ids[end:])
    return Tokens(splits, vocab_size)


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


def hash_tensor(*tensors: Tensor) -> str:
    """12 hex digits of the SHA-256 over the values."""
    total = hashlib.sha256()
    for tensor in tensors:
        values = tensor.detach().to_dense().cpu().resolve_conj().resolve_neg().flatten()
        # As bytes, since numpy has no bfloat16.
        total.update(values.contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()[:12]
