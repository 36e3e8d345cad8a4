"""Batches in parts: the step of the whole batch, to rounding."""

import dataclasses

import pytest
import torch

from bench.border.logical import initialise
from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    MuonClipOptions,
    NanoGPTOptions,
    TrainOptions,
)
from bench.optim import muonclip
from bench.worker.clocks import PhaseClock
from bench.worker.positions import BatchPositions
from bench.worker.registry import MODELS, OPTIMIZERS
from bench.worker.streams import torch_stream
from bench.worker.training import Trainer
from bench.worker.windows import JoinedWindows
from tests.builders.worker_cells import asking, run, spec_of

B, T, V = 8, 6, 11
STEPS = 5


def trained(model: str, optimizer: str, accumulate: int, dtype=torch.float64, **settings):
    """Losses of a few steps, and the weights after them."""
    options = MODEL_OPTIONS[model](n_embd=8, n_layer=2, n_head=2, **settings)
    built = MODELS[model](options, V, T)
    initialise(built.stacks(), lambda name: torch_stream(1, name))
    built = built.to(dtype)
    stream = torch.Generator().manual_seed(3)
    windows = JoinedWindows(torch.randint(V, (60,), generator=stream), [60], T)
    positions = BatchPositions(3, STEPS, B, len(windows))
    optimizers = OPTIMIZERS[optimizer].build(built.stacks(), OPTIMIZER_OPTIONS[optimizer]())
    train = TrainOptions(steps=STEPS, batch_size=B, block_size=T, accumulate=accumulate)
    trainer = Trainer(built, optimizers, windows, positions, PhaseClock(), train)
    losses = torch.stack([trainer.step(positions[step]) for step in range(STEPS)])
    return losses, torch.cat([each.detach().flatten() for each in built.parameters()])


@pytest.mark.parametrize("accumulate", [2, 4, 8])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize(
    ("model", "settings"),
    [
        ("nanogpt", {}),
        ("nanokimi", {}),
        ("nanokimi", {"gating": "topk"}),
    ],
)
def test_the_steps_are_those_of_the_whole_batch(model, settings, optimizer, accumulate):
    whole = trained(model, optimizer, 1, **settings)
    parts = trained(model, optimizer, accumulate, **settings)
    for expected, found in zip(whole, parts, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11)


def test_the_losses_of_a_cell_are_those_of_the_whole_batch(tmp_path):
    spec = asking(spec_of(steps=12), batch_size=4)
    whole = run(tmp_path, spec)
    parts = run(tmp_path, asking(spec, accumulate=2))
    assert parts.losses().keys() == whole.losses().keys()
    for step, loss in whole.losses().items():
        assert parts.losses()[step] == pytest.approx(loss, rel=1e-5)
    assert parts.row["tokens"] == whole.row["tokens"]
    assert parts.row["passes_per_step"] == whole.row["passes_per_step"] == 1


def test_muonclip_hears_of_the_largest_logit_of_all_parts():
    """With the part of the larger logits first or last."""
    told = []
    for order in ([0, 1], [1, 0]):
        model = MODELS["nanogpt"](NanoGPTOptions(n_embd=8, n_layer=1, n_head=2), V, T)
        initialise(model.stacks(), lambda name: torch_stream(1, name))
        optimizers = muonclip.build(model.stacks(), MuonClipOptions())
        windows = JoinedWindows(torch.arange(20).remainder(V), [20], T)
        train = TrainOptions(steps=1, batch_size=2, block_size=T, accumulate=2)
        positions = BatchPositions(1, 1, 2, len(windows))
        trainer = Trainer(model, optimizers, windows, positions, PhaseClock(), train)
        trainer.gradients(windows.at(torch.tensor(order)))
        (logits,) = (stack.logits for stack in model.stacks() if stack.logits is not None)
        told.append(logits.largest)
        for part in order:
            model(windows.at(torch.tensor([part]))[:, :-1])
            assert (logits.largest <= told[-1]).all()
    assert torch.equal(*told)


def test_a_batch_that_cannot_be_divided_is_refused():
    with pytest.raises(ValueError, match="accumulate 3 does not divide batch_size 16: give a div"):
        TrainOptions(accumulate=3)
    assert dataclasses.replace(TrainOptions(), accumulate=16).accumulate == 16
