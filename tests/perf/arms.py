"""The four arms, ours and the original's way, from the same weights, text and batches."""

import re
from collections.abc import Callable, Iterator
from functools import cache
from itertools import cycle
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from bench.border.logical import initialise
from bench.border.options import (
    TRAIN_SHARE,
    AdamWOptions,
    EvalOptions,
    NanoGPTOptions,
    NanoKimiOptions,
    TrainOptions,
    TrueMuonOptions,
)
from bench.models.decoder import Decoder
from bench.records.corpora import find_corpus
from bench.worker.clocks import PhaseClock
from bench.worker.data import Split, Tokens
from bench.worker.environment import gpu_memory_bytes
from bench.worker.evaluation import Evaluator
from bench.worker.graphs import StepsOnDevice
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.streams import torch_stream
from bench.worker.training import Trainer
from bench.worker.windows import as_ids
from tests.perf import original

MODEL_OPTIONS = {"nanogpt": NanoGPTOptions(), "nanokimi": NanoKimiOptions()}
OPTIMIZER_OPTIONS = {"adamw": AdamWOptions(), "truemuon": TrueMuonOptions()}
SEED = 1
STEPS = 1_000  # whose batches are drawn
TRAIN = TrainOptions()  # the original's batch and block
# Ours keeps the heads of a kind together, the original's program the kinds of a head.
HEAD = re.compile(r"(query|key|value)\.(\d+)")
EVAL_BATCHES = 20  # of each split: enough to time the original's way


class Work(Protocol):
    """What is timed of either side."""

    def step(self) -> float: ...

    def gradients(self) -> None:
        """Those of the next batch, kept for the optimizers' step alone."""

    def optimizers_step(self) -> None: ...

    def evaluate(self) -> int:
        """How many tokens were evaluated."""


@cache
def pydoc() -> Tokens:
    """The built-in text as tokens."""
    return tokens_of(find_corpus("pydoc").load().decode())


def tokens_of(text: str) -> Tokens:
    rank = {character: index for index, character in enumerate(sorted(set(text)))}
    tokens = torch.tensor([rank[character] for character in text])
    n_train = int(TRAIN_SHARE * len(tokens))
    splits = {"train": Split.of(tokens[:n_train].int()), "val": Split.of(tokens[n_train:].int())}
    return Tokens(splits, len(rank))  # as narrow as cells map them


def batches(tokens: Tokens) -> BatchPositions:
    """Positions (steps, B) that both sides read."""
    n_windows = len(tokens.windows("train", TRAIN.block_size))
    return BatchPositions(SEED, STEPS, TRAIN.batch_size, n_windows)


class Ours:
    def __init__(
        self, model: str, optimizer: str, device: str = "cpu", tokens: Tokens | None = None
    ) -> None:
        tokens = tokens or pydoc()
        place = torch.device(device)
        positions = batches(tokens).to(place)
        tokens = tokens.to(place, gpu_memory_bytes(place))
        self.model = build(model, tokens).to(device)
        windows = tokens.windows("train", TRAIN.block_size)
        optimizers = OPTIMIZERS[optimizer].build(self.model.stacks(), OPTIMIZER_OPTIONS[optimizer])
        self.trainer = Trainer(self.model, optimizers, windows, positions, PhaseClock())
        sizes = (TRAIN.batch_size, TRAIN.block_size)
        self.evaluator = Evaluator(tokens, EvalOptions(), *sizes, SEED)
        self.positions = cycle(positions)

    def on_device(self, together: int) -> StepsOnDevice:
        """The same training, of which `together` steps can be captured as one graph."""
        trainer = self.trainer
        return StepsOnDevice(
            trainer.step,
            self.model,
            trainer.optimizers,
            trainer.positions,
            trainer.losses,
            TRAIN,
            together,
        )

    def step(self) -> float:
        return self.trainer.step(next(self.positions)).item()

    def gradients(self) -> None:
        batch = self.trainer.windows.at(next(self.positions))
        logits = self.model(batch[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()

    def optimizers_step(self) -> None:
        for optimizer in self.trainer.optimizers:
            optimizer.step()

    def evaluate(self) -> int:
        self.evaluator.loss(self.model, "val", 0)
        return len(self.evaluator.starts("val", 0)) * TRAIN.block_size


class Theirs:
    """The original's way, from our weights."""

    def __init__(
        self, model: str, optimizer: str, tokens: Tokens | None = None, device: str = "cpu"
    ) -> None:
        place = torch.device(device)
        tokens = (tokens or pydoc()).to(place, gpu_memory_bytes(place))
        positions = batches(tokens).to(place)
        built = original.Model(MODEL_OPTIONS[model], tokens.vocab_size, TRAIN.block_size)
        copy_weights(build(model, tokens), built)
        built.to(device)
        splits = {name: as_ids(split.tensors[0]) for name, split in tokens.splits.items()}
        sizes = (TRAIN.batch_size, TRAIN.block_size)
        self.program = original.Program(built, OPTIMIZER_OPTIONS[optimizer], splits, *sizes)
        self.positions: Iterator[Tensor] = cycle(positions)

    def step(self) -> float:
        return self.program.step(next(self.positions))

    def gradients(self) -> None:
        program = self.program
        text = program.splits["train"]
        program.model(*original.batch(text, next(self.positions), TRAIN.block_size)).backward()

    def optimizers_step(self) -> None:
        for optimizer in self.program.optimizers:
            optimizer.step()

    def evaluate(self) -> int:
        self.program.evaluate(EVAL_BATCHES)
        return 2 * EVAL_BATCHES * TRAIN.batch_size * TRAIN.block_size


SIDES: dict[str, Callable[[str, str], Work]] = {"ours": Ours, "original": Theirs}


def build(model: str, tokens: Tokens) -> Decoder:
    built = MODELS[model](MODEL_OPTIONS[model], tokens.vocab_size, TRAIN.block_size)
    initialise(built.stacks(), lambda name: torch_stream(SEED, "weights", name))
    return built


@torch.no_grad()
def copy_weights(ours: Decoder, theirs: original.Model) -> None:
    named = dict(theirs.named_parameters())
    for name, value in _logical_tensors(ours):
        named.pop(HEAD.sub(r"heads.\2.\1", name)).copy_(value)
    assert not named, f"without a value: {sorted(named)}"


def _logical_tensors(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    for stack in model.stacks():
        yield from zip(stack.names, stack.view(stack.parameter.detach()), strict=True)
