"""Small cells, run in the tests' own process, and the same training in a plain loop."""

import csv
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from bench.border.logical import initialise
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    EvalOptions,
    TrainOptions,
)
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.border.tokenised import tokenise
from bench.worker import evaluation
from bench.worker.arithmetic import ANSWER, ASKING
from bench.worker.cell import run_cell
from bench.worker.data import read_tokens
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.schedule import rate_share
from bench.worker.streams import torch_stream

TEXT = ("the quick brown fox jumps over the lazy dog\n" * 30).encode()

Events = list[dict[str, Any]]


def recorder(events: Events) -> Callable[..., None]:
    return lambda **event: events.append(event)


def spec_of(
    model: str = "nanogpt",
    optimizer: str = "adamw",
    seed: int = 1,
    steps: int = 10,
    every: int = 4,
    device: str = "cpu",
    protocol: str = "full",
    batch_size: int = 2,
    **settings: Any,
) -> RunSpec:
    options = MODEL_OPTIONS[model](n_embd=8, n_layer=1, n_head=2)
    return RunSpec(
        model=Model("tiny", model, options),
        optimizer=Optimizer("as-asked", optimizer, OPTIMIZER_OPTIONS[optimizer](**settings)),
        device=device,
        seed=seed,
        train=TrainOptions(steps=steps, batch_size=batch_size, block_size=8),
        eval=EvalOptions(every=every, protocol=protocol, train_windows=6, batches=3),
        corpus=CorpusRef("text", hashlib.sha256(TEXT).hexdigest()),
    )


def asking(spec: RunSpec, **settings: Any) -> RunSpec:
    """The same cell with other settings of training."""
    return replace(spec, train=replace(spec.train, **settings))


@dataclass
class Ran:
    """What a cell left behind."""

    folder: Path
    code: int
    events: Events

    @property
    def result(self) -> dict[str, Any]:
        return json.loads((self.folder / "result.json").read_text(encoding="utf-8"))

    @property
    def row(self) -> dict[str, Any]:
        return self.result["row"]

    def table(self, name: str) -> list[dict[str, str]]:
        with (self.folder / name).open(newline="") as file:
            return list(csv.DictReader(file))

    def column(self, name: str, column: str) -> list[str]:
        return [line[column] for line in self.table(name)]

    def losses(self) -> dict[int, float]:
        """Step -> loss before it, of steps that were timed by themselves or ended a launch."""
        assert self.result["status"] == "ok", self.result["reason"]
        return {int(line["step"]): float(line["loss"]) for line in self.table("steps.csv")}


def run(
    parent: Path,
    spec: RunSpec,
    corpus: Path | Sequence[Path] | None = None,
    inferences: int = 5,
    before: Callable[[Path], None] = lambda folder: None,
) -> Ran:
    """One cell; `inferences` in a round, of which a real one has 100.

    before: called with its folder, as the launching side lays it out.
    """
    folder = parent / f"cell-{len(list(parent.iterdir()))}"
    folder.mkdir()
    before(folder)
    (folder / "spec.json").write_text(spec.to_json())
    paths = [corpus] if isinstance(corpus, Path) else [*(corpus or ())]
    if not paths:
        paths = [parent / "tokens"]
        paths[0].write_bytes(tokenise(TEXT.decode()))
    events: Events = []
    for method in ASKING:  # a cell is a process of its own; here an earlier one may have told them
        vars(method).pop(ANSWER, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "INFER_ROUND", inferences)
        code = run_cell(folder, paths, time.monotonic(), recorder(events))
    return Ran(folder, code, events)


def plain_losses(spec: RunSpec, corpus: Path) -> list[float]:
    """The cell's training without warm-up, evaluation or clock."""
    tokens = read_tokens(corpus, spec.corpus.sha256, spec.data)
    (ids,) = tokens.splits["train"].tensors
    T, train = spec.train.block_size, spec.train
    model = MODELS[spec.model.base](spec.model.options, tokens.vocab_size, T)
    stacks = model.stacks()
    initialise(stacks, lambda name: torch_stream(spec.seed, "weights", name))
    optimizers = OPTIMIZERS[spec.optimizer.base].build(stacks, spec.optimizer.options)
    base_rates = [[group["lr"] for group in each.param_groups] for each in optimizers]
    table = BatchPositions(spec.seed, train.steps, train.batch_size, len(ids) - T)
    losses = []
    for step, row in enumerate(table):
        batch = torch.stack([ids[p : p + T + 1] for p in row.tolist()]).long()
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        auxiliary = model.auxiliary_loss() if hasattr(model, "auxiliary_loss") else None
        (loss if auxiliary is None else loss + auxiliary).backward()
        if train.clip_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm)
        for optimizer, rates in zip(optimizers, base_rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * rate_share(train, step)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    return losses
