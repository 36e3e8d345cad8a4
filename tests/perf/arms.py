"""The four arms, ours and the original's way, from the same weights, text and batches."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.corpora import find_corpus
from bench.logical import initialise
from bench.models.decoder import Decoder
from bench.options import (
    AdamWOptions,
    EvalOptions,
    NanoGPTOptions,
    NanoKimiOptions,
    TrainOptions,
    TrueMuonOptions,
)
from bench.worker.clocks import PhaseClock
from bench.worker.data import Tokens, batch_positions
from bench.worker.evaluation import Evaluator
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.streams import torch_stream
from bench.worker.training import Trainer
from tests.perf import original

MODEL_OPTIONS = {"nanogpt": NanoGPTOptions(), "nanokimi": NanoKimiOptions()}
OPTIMIZER_OPTIONS = {"adamw": AdamWOptions(), "truemuon": TrueMuonOptions()}
ARMS = [(model, optimizer) for model in MODEL_OPTIONS for optimizer in OPTIMIZER_OPTIONS]
SEED = 1
# Ours keeps the heads of a kind together, the original's program the kinds of a head.
HEAD = re.compile(r"(query|key|value)\.(\d+)")
TRAIN = TrainOptions()  # the original's batch and block


def pydoc() -> Tokens:
    """The built-in text as tokens."""
    text = find_corpus("pydoc").load().decode()
    vocabulary = sorted(set(text))
    rank = {character: index for index, character in enumerate(vocabulary)}
    tokens = torch.tensor([rank[character] for character in text])
    n_train = int(0.9 * len(tokens))
    return Tokens(tokens[:n_train], tokens[n_train:], len(vocabulary))


@dataclass(frozen=True)
class Arm:
    """One arm twice; a batch position table that both read."""

    name: str
    ours: Trainer
    evaluator: Evaluator
    theirs: original.Program
    positions: Tensor  # (steps, B)


def make_arm(model: str, optimizer: str, tokens: Tokens, steps: int = 1_000) -> Arm:
    n_windows = len(tokens.windows("train", TRAIN.block_size))
    positions = batch_positions(SEED, steps, TRAIN.batch_size, n_windows)
    ours = our_trainer(model, optimizer, tokens, positions)
    theirs = original_program(model, optimizer, tokens, ours.model)
    evaluator = Evaluator(tokens, EvalOptions(), TRAIN.batch_size, TRAIN.block_size, SEED)
    return Arm(f"{model} + {optimizer}", ours, evaluator, theirs, positions)


def our_trainer(model: str, optimizer: str, tokens: Tokens, positions: Tensor) -> Trainer:
    built = MODELS[model](MODEL_OPTIONS[model], tokens.vocab_size, TRAIN.block_size)
    stacks = built.stacks()
    initialise(stacks, lambda name: torch_stream(SEED, "weights", name))
    windows = tokens.windows("train", TRAIN.block_size)
    trainer = Trainer(built, [], windows, positions, PhaseClock())
    trainer.optimizers = OPTIMIZERS[optimizer].build(stacks, OPTIMIZER_OPTIONS[optimizer])
    return trainer


def original_program(
    model: str, optimizer: str, tokens: Tokens, weights: Decoder
) -> original.Program:
    """The original's way, with these weights."""
    built = original.Model(MODEL_OPTIONS[model], tokens.vocab_size, TRAIN.block_size)
    named = dict(built.named_parameters())
    with torch.no_grad():
        for name, value in logical_tensors(weights):
            named.pop(HEAD.sub(r"heads.\2.\1", name)).copy_(value)
    assert not named, f"without a value: {sorted(named)}"
    splits = {"train": tokens.train, "val": tokens.val}
    options = OPTIMIZER_OPTIONS[optimizer]
    return original.Program(built, options, splits, TRAIN.batch_size, TRAIN.block_size)


def logical_tensors(model: Decoder) -> Iterator[tuple[str, Tensor]]:
    for stack in model.stacks():
        yield from zip(stack.names, stack.view(stack.parameter.detach()), strict=True)
