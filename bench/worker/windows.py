"""Batches from the tokens of a split: every window of T + 1 tokens, by its position.

Positions count the windows of all files of the split, in their order; no window crosses from one
file into the next.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

CPU = torch.device("cpu")


class Windows:
    """The windows of a split; what draws them knows where its tokens lie.

    lengths: tokens of each file. device: where batches are wanted; place: where the positions are
    that `at` is given.
    """

    def __init__(
        self, lengths: Sequence[int], block_size: int, device: torch.device, place: torch.device
    ) -> None:
        self.block_size = block_size
        self.device, self.place = device, place
        self.n_tokens = sum(lengths)
        self.n_files = len(lengths)
        # Of all files up to each: windows, and windows that do not overlap.
        self.windows = [0, *accumulate(length - block_size for length in lengths)]
        self.blocks = [0, *accumulate((length - 1) // block_size for length in lengths)]
        self.ends = torch.tensor(self.windows[1:], device=place)

    def __len__(self) -> int:
        return self.windows[-1]

    def at(self, positions: Tensor) -> Tensor:
        """The windows at these positions (B,): (B, T + 1) int64."""
        raise NotImplementedError

    @property
    def n_blocks(self) -> int:
        """How many windows do not overlap: those of each file from its start."""
        return self.blocks[-1]

    def starts_of(self, blocks: Tensor) -> Tensor:
        """The positions (n,) of windows that do not overlap, by their numbers (n,), on the host."""
        if self.n_files == 1:
            return blocks * self.block_size
        files = torch.searchsorted(torch.tensor(self.blocks[1:]), blocks, right=True)
        within = blocks - torch.tensor(self.blocks)[files]
        return torch.tensor(self.windows)[files] + within * self.block_size


class JoinedWindows(Windows):
    """Of tokens in one piece, where batches are wanted: of one file, or in a GPU's memory.

    tokens: (n,) int32 or int64 of a text; int16 of files, which holds the bits of uint16, for which
    PyTorch has few operators.
    """

    def __init__(self, tokens: Tensor, lengths: Sequence[int], block_size: int) -> None:
        super().__init__(lengths, block_size, tokens.device, tokens.device)
        self.rows = tokens.unfold(0, block_size + 1, 1)  # (n - T, T + 1), a view

    def at(self, positions: Tensor) -> Tensor:
        if self.n_files > 1:  # each file has T windows fewer than tokens
            files = torch.searchsorted(self.ends, positions, right=True)
            positions = positions + self.block_size * files
        return as_ids(self.rows[positions])


class MappedWindows(Windows):
    """Of files that stay mapped on the host, wherever batches are wanted.

    A batch is gathered on the host. To a GPU it is copied from pinned memory, for which nobody
    waits: the host runs ahead.

    tokens: (n,) of each file, of a type as above.
    """

    def __init__(self, tokens: Sequence[Tensor], block_size: int, device: torch.device) -> None:
        super().__init__([len(each) for each in tokens], block_size, device, CPU)
        self.files = [each.unfold(0, block_size + 1, 1) for each in tokens]

    def at(self, positions: Tensor) -> Tensor:
        return as_ids(self.gathered(positions).to(self.device, non_blocking=True))

    def gathered(self, positions: Tensor) -> Tensor:
        """The windows at these positions (B,): (B, T + 1) as the files have them, on the host."""
        batch = torch.empty(
            (len(positions), self.block_size + 1),
            dtype=self.files[0].dtype,
            pin_memory=self.device.type == "cuda",
        )
        files = torch.searchsorted(self.ends, positions, right=True)
        for file in files.unique().tolist():
            mine = files == file
            batch[mine] = self.files[file][positions[mine] - self.windows[file]]
        return batch


def as_ids(tokens: Tensor) -> Tensor:
    """Token ids as int64, of what may hold the bits of uint16 in int16."""
    ids = tokens.long()
    return ids & 0xFFFF if tokens.dtype == torch.int16 else ids
