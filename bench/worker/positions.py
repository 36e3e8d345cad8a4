"""Where the batches of a training start: a table that is drawn part by part."""

import hashlib
import math
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bench.worker.streams import numpy_stream
from bench.worker.windows import CPU

# Positions that are drawn at once: 8 MiB, and some 5 ms of work. The whole table of ten million
# steps may be larger than the machine's memory.
PART = 2**20
# Of a longer table the hash is over about so many: a few seconds, whatever the length of the run.
HASHED = 2**28


class BatchPositions:
    """Where each sequence of each step starts: (steps, B) int64, from the seed alone.

    Row by row from one stream: the first steps of a longer run are those of a shorter one. Where
    the stream stands as a part begins is remembered, so that any part can be drawn again.

    n_windows: how many positions there are; device: where rows are handed out.
    """

    def __init__(
        self,
        seed: int,
        steps: int,
        batch_size: int,
        n_windows: int,
        device: torch.device = CPU,
    ) -> None:
        self.asked = (seed, steps, batch_size, n_windows)
        self.shape = (steps, batch_size)
        self.n_windows = n_windows
        self.device = device
        self.rows_at_once = max(1, PART // batch_size)
        self.stream = numpy_stream(seed, "batches")
        self.states: list[Any] = [self.stream.bit_generator.state]
        self.drawn = -1  # the part that `rows` are of
        self.rows = torch.empty(0)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, step: int) -> Tensor:
        """The positions of a step: (B,) int64."""
        if not 0 <= step < len(self):
            raise IndexError(f"step {step} of {len(self)}")
        number, row = divmod(step, self.rows_at_once)
        if number != self.drawn:
            self.rows, self.drawn = self._draw(number).to(self.device), number
        return self.rows[row]

    def to(self, device: torch.device) -> "BatchPositions":
        """The same table, handed out on another device."""
        found = BatchPositions(*self.asked, device)
        found.states = self.states
        return found

    def first(self, steps: int) -> "BatchPositions":
        """The table of a run of at most so many steps that begins as this one does."""
        seed, most, batch_size, n_windows = self.asked
        return BatchPositions(seed, min(steps, most), batch_size, n_windows, self.device)

    def between(self, begin: int, end: int) -> Tensor:
        """Rows from one step to before another, on the host: (end - begin, B) int64."""
        first, last = begin // self.rows_at_once, (end - 1) // self.rows_at_once
        rows = torch.cat([self._draw(number) for number in range(first, last + 1)])
        skipped = first * self.rows_at_once
        return rows[begin - skipped : end - skipped]

    @cached_property
    def order_hash(self) -> str:
        """12 hex digits of the SHA-256 over the table, as far as HASHED positions reach."""
        total = hashlib.sha256()
        rows = min(len(self), math.ceil(HASHED / self.shape[1]))
        for number in range(math.ceil(rows / self.rows_at_once)):
            total.update(self._draw(number).numpy().tobytes())
        return total.hexdigest()[:12]

    def _draw(self, number: int) -> Tensor:
        """The rows of a part, on the host; those before it are passed if they never were drawn."""
        while len(self.states) <= number:
            self._draw(len(self.states) - 1)
        self.stream.bit_generator.state = self.states[number]
        n_rows = min(self.rows_at_once, len(self) - number * self.rows_at_once)
        drawn = self.stream.integers(0, self.n_windows, size=(n_rows, self.shape[1]))
        if len(self.states) == number + 1:
            self.states.append(self.stream.bit_generator.state)
        return torch.from_numpy(drawn.astype(np.int64, copy=False))
