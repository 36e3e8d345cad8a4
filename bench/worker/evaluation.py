"""Losses on the two splits, and the time of an inference."""

import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.options import EvalOptions
from bench.worker import graphs
from bench.worker.clocks import synchronise
from bench.worker.data import Tokens
from bench.worker.streams import numpy_stream

# Tokens of one evaluation batch: large enough to fill the device, small enough for its caches. On a
# CPU 8,192 take up to 1.6 times as long a token (docs/performance.md). Fixed, because the order of
# a sum decides its last digits.
EVAL_TOKENS = {"cpu": 1_024, "cuda": 8_192}

INFER_WARMUP = 20
# Forward passes of a round. Two rounds in a row agree if their medians do, within a share of the
# smaller one that a quiet machine stays under; if none do, nothing is told after so many rounds.
INFER_ROUND = 100
INFER_AGREEMENT = 0.05
INFER_ROUNDS = 10


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Nats a token. logits: (B, T, V), targets: (B, T)."""
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction=reduction)


class Evaluator:
    """The loss of a model on windows that depend on (seed, step, split) and the protocol alone.

    full: all non-overlapping windows of the validation split, and as many evenly spaced ones of
    the training split as `train_windows` says. sampled: `batches` random batches of each split,
    from a stream of their own; the mean over batches is the mean over their tokens. The test
    split is evaluated once, so that it is always taken whole.
    """

    def __init__(
        self, tokens: Tokens, options: EvalOptions, batch_size: int, block_size: int, seed: int
    ) -> None:
        self.options = options
        self.seed = seed
        self.sampled = options.batches * batch_size
        self.block_size = block_size
        self.windows = {split: tokens.windows(split, block_size) for split in tokens.splits}
        device = tokens.device
        # What a graph of a whole chunk reads and writes: positions of windows, and nats.
        whole = max(1, EVAL_TOKENS[device.type] // block_size)
        self.chunk = torch.zeros(whole, dtype=torch.int64, device=device)
        self.total = torch.zeros((), dtype=torch.float64, device=device)
        self.graphs: dict[str, graphs.Graph] = {}  # by split
        self.of_windows: dict[str, Tensor] = {}  # nats a token of each, (n,) in their order

    def starts(self, split: str, step: int) -> Tensor:
        """Positions of the windows to evaluate: (n,) int64."""
        windows = self.windows[split]
        if self.options.protocol == "sampled" and split != "test":
            stream = numpy_stream(self.seed, "eval", split, step)
            return torch.from_numpy(stream.integers(0, len(windows), size=self.sampled))
        blocks = windows.n_blocks
        chosen = min(self.options.train_windows, blocks) if split == "train" else blocks
        return windows.starts_of(torch.arange(chosen) * blocks // chosen)

    # Not inference_mode: a model trains with what it keeps from a pass, such as rotary angles.
    @torch.no_grad()
    def loss(
        self,
        model: nn.Module,
        split: str,
        step: int,
        beat: Callable[[], None] = lambda: None,
        last: bool = False,
    ) -> float:
        """Mean nats a token over the split's windows at this step; `beat` is called on the way.

        last: each window's are kept as well, where the windows are the whole split; not by graphs,
        which know sums alone.
        """
        self.total.zero_()
        starts = self.starts(split, step).to(self.windows[split].place)
        kept: list[Tensor] | None = [] if last and self.takes_whole(split) else None
        for chunk in starts.split(len(self.chunk)):
            if split in self.graphs and len(chunk) == len(self.chunk) and kept is None:
                self.chunk.copy_(chunk)
                self.graphs[split].replay()
            else:
                self._add(model, split, chunk, kept)
            beat()
        if kept:
            self.of_windows[split] = torch.cat(kept).cpu()
        return self.total.item() / (len(starts) * self.block_size)

    def takes_whole(self, split: str) -> bool:
        """Whether an evaluation of a split is of all its windows, so that all runs share them."""
        return split == "test" or (split == "val" and self.options.protocol == "full")

    def _add(
        self, model: nn.Module, split: str, chunk: Tensor, kept: list[Tensor] | None = None
    ) -> None:
        batch = self.windows[split].at(chunk)
        logits, targets = model(batch[:, :-1]), batch[:, 1:]
        self.total += cross_entropy(logits, targets, reduction="sum")
        if kept is not None:
            nats = cross_entropy(logits, targets, reduction="none")  # (B * T,)
            kept.append(nats.view(targets.shape).double().mean(1))

    @torch.no_grad()
    def capture(self, model: nn.Module, split: str) -> None:
        """From here on, whole chunks of this split, if it has any, are launched as a CUDA graph.

        Raises:
            RuntimeError: for a model that a graph cannot hold.
        """
        if len(self.starts(split, 0)) < len(self.chunk):
            return
        self.chunk.zero_()
        with graphs.capturing("an evaluation"):
            self.graphs[split] = graphs.captured(lambda: self._add(model, split, self.chunk))

    @torch.no_grad()
    def compare(self, model: nn.Module, split: str, step: int) -> None:
        """Evaluate the first whole chunk, if the split has any, by the graph and kernel by kernel.

        Raises:
            WrongClassError: where the two do not agree.
        """
        if split not in self.graphs:
            return
        self.chunk.copy_(self.starts(split, step)[: len(self.chunk)])
        works = (self.graphs[split].replay, lambda: self._add(model, split, self.chunk))
        by_graph, alone = (self._nats_a_token(model, work) for work in works)
        if not graphs.agree(by_graph, alone):
            raise graphs.disagreement(f"an evaluation ({split}, step {step})", by_graph, alone)

    def _nats_a_token(self, model: nn.Module, evaluate: Callable[[], object]) -> float:
        """Of the chunk; what it leaves in the model's buffers is taken back."""
        before = [(buffer, buffer.clone()) for buffer in model.buffers()]
        self.total.zero_()
        evaluate()
        for buffer, value in before:
            buffer.copy_(value)
        return self.total.item() / (len(self.chunk) * self.block_size)


@torch.no_grad()  # as evaluations are
def infer_times_ms(
    model: nn.Module, batch: Tensor, beat: Callable[[], None] = lambda: None
) -> list[float] | None:
    """Times of a forward pass of one (B, T) batch, each with the device waited for.

    Of the first two rounds in a row that agree; None if none do. `beat` is called after each.
    """
    for _ in range(INFER_WARMUP):
        model(batch)
    before: list[float] = []
    for _ in range(INFER_ROUNDS):
        times = _round_ms(model, batch)
        beat()
        if before and _agree(statistics.median(before), statistics.median(times)):
            return before + times
        before = times
    return None


def _agree(one: float, other: float) -> bool:
    return abs(one - other) <= INFER_AGREEMENT * min(one, other)


def _round_ms(model: nn.Module, batch: Tensor) -> list[float]:
    times = []
    for _ in range(INFER_ROUND):
        synchronise(batch.device)
        begin = time.monotonic_ns()
        model(batch)
        synchronise(batch.device)
        times.append((time.monotonic_ns() - begin) / 1e6)
    return times
