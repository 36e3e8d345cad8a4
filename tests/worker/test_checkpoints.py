"""A cell that was stopped half-way ends as one that was not: losses, curve, and what it tells."""

import dataclasses
import importlib
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.checkpoints import Circumstances, Keeping
from bench.border.options import MODEL_OPTIONS, OWN, OwnModel, OwnOptimizer
from bench.border.spec import CellFiles, Model, Optimizer, RunSpec
from bench.worker import checkpoints, training
from tests.builders.worker_cells import Ran, asking, run, spec_of

HERE = Circumstances("code", "env", "", "host")
EVERY = 4


class Stopped(KeyboardInterrupt):
    """Somebody pulled the plug."""


def cell(
    parent: Path,
    spec: RunSpec,
    every: str = f"{EVERY} steps",
    earlier: Ran | None = None,
    dies_at: int | None = None,
    here: Circumstances = HERE,
) -> Ran:
    """A cell that keeps checkpoints, may have those of an earlier one, and may be cut off."""

    def before(folder: Path) -> None:
        files = CellFiles(folder)
        Keeping(every, here).write(files.keeping)
        if earlier is not None:
            CellFiles(earlier.folder).checkpoints.rename(files.checkpoints)

    with pytest.MonkeyPatch.context() as patch:
        if dies_at is not None:
            step = training.Trainer.step

            def dying(trainer: Any, positions: Any) -> Any:
                if trainer.done == dies_at and len(trainer.curve) > 0:
                    raise Stopped
                return step(trainer, positions)

            patch.setattr(training.Trainer, "step", dying)
        return run(parent, spec, before=before)


def told(ran: Ran) -> tuple[Any, ...]:
    """All that is measured of the training and no time."""
    curve = [
        {name: value for name, value in point.items() if name != "train_time_s"}
        for point in ran.table("curve.csv")
    ]
    losses = [ran.row[f"{split}_loss_final"] for split in ("train", "val")]
    return ran.result["status"], curve, losses, ran.column("steps.csv", "loss")


def kept(ran: Ran) -> list[Path]:
    return sorted(CellFiles(ran.folder).checkpoints.glob("*"))


VARIANTS = {
    "plain": ("nanogpt", {}),
    "experts": ("nanokimi", {}),
    "pruned": ("nanokimi", {"prune_every": 3, "prune_to": 2}),
    "bias": ("nanokimi", {"gating": "topk", "balance": "bias"}),
}


def variant(name: str, optimizer: str, **settings: Any) -> RunSpec:
    base, options = VARIANTS[name]
    small = MODEL_OPTIONS[base](n_embd=8, n_layer=1, n_head=2, **options)
    spec = spec_of(model=base, optimizer=optimizer, steps=14, every=5, **settings)
    return dataclasses.replace(spec, model=Model("small", base, small))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", "truemuon", "muon", "muonclip"])
@pytest.mark.parametrize("model", VARIANTS)
def test_it_goes_on_as_if_nothing_had_been(model, optimizer, tmp_path):
    spec = asking(variant(model, optimizer), schedule="cosine", warmup_steps=3)
    undisturbed = run(tmp_path, spec)
    first = cell(tmp_path, spec, dies_at=7)
    assert (first.result["status"], first.row["steps"]) == ("crashed", 7)
    second = cell(tmp_path, spec, earlier=first, dies_at=11)
    third = cell(tmp_path, spec, earlier=second)
    assert told(third) == told(undisturbed)
    assert (third.row["resumed"], third.row["resumed_from"]) == (2, "step 8")
    assert (undisturbed.row["resumed"], undisturbed.row["resumed_from"]) == (0, None)
