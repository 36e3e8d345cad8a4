"""What changes no loss, to the last digit: a repetition, warm-up, evaluation, clocks."""

import dataclasses
import weakref
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
)
from bench.worker import cell, registry
from bench.worker.training import Trainer
from tests.builders.worker_cells import plain_losses, run, spec_of

ARMS = [(model, optimizer) for model in MODEL_OPTIONS for optimizer in OPTIMIZER_OPTIONS]


@pytest.mark.parametrize("protocol", ["full", "sampled"])
@pytest.mark.parametrize(("model", "optimizer"), ARMS)
def test_a_cell_run_again_has_the_same_losses_to_the_last_digit(
    tmp_path, model, optimizer, protocol
):
    spec = spec_of(model, optimizer, steps=6, protocol=protocol)
    first, again = run(tmp_path, spec), run(tmp_path, spec)
    for name, column in (
        ("curve.csv", "train_loss"),
        ("curve.csv", "val_loss"),
        ("steps.csv", "loss"),
    ):
        assert first.column(name, column) == again.column(name, column)
    for column in ("val_loss_final", "init_hash", "data_order_hash", "n_params"):
        assert first.row[column] == again.row[column]


@pytest.mark.parametrize(("model", "optimizer"), ARMS)
def test_warm_up_evaluation_and_clocks_change_no_loss(tmp_path, model, optimizer):
    """Weights and optimizer after warm-up are as they were initialised."""
    torch.set_num_threads(1)
    spec = spec_of(model, optimizer, steps=12, lr=0.02)
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")


PACES = {
    "cosine": {"schedule": "cosine", "warmup_steps": 3, "min_lr_share": 0.1},
    "wsd": {"schedule": "wsd", "warmup_steps": 2, "decay_steps": 5},
    "warm-up": {"warmup_steps": 8},
    "clipped": {"clip_norm": 0.05},
    "everything": {"schedule": "cosine", "warmup_steps": 3, "clip_norm": 0.05},
}


@pytest.mark.parametrize("pace", PACES)
@pytest.mark.parametrize("optimizer", OPTIMIZER_OPTIONS)
def test_every_step_has_the_rates_and_gradients_asked_for(tmp_path, optimizer, pace):
    """The steps of warm-up have had theirs, of which nothing is left."""
    torch.set_num_threads(1)
    plain = spec_of(optimizer=optimizer, steps=12, every=12)
    spec = dataclasses.replace(plain, train=dataclasses.replace(plain.train, **PACES[pace]))
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")
    if optimizer != "adamw" or pace != "clipped":  # AdamW divides a gradient's size away
        assert losses != plain_losses(plain, tmp_path / "tokens")


def test_evaluating_more_often_changes_no_loss_of_training(tmp_path):
    often, seldom = (run(tmp_path, spec_of(every=every)) for every in (1, 100))
    assert often.column("steps.csv", "loss") == seldom.column("steps.csv", "loss")
    assert often.row["val_loss_final"] == seldom.row["val_loss_final"]


def test_a_longer_run_begins_as_a_shorter_one(tmp_path):
    short, long = (run(tmp_path, spec_of(steps=steps)) for steps in (8, 12))
    assert short.table("curve.csv")[0]["val_loss"] == long.table("curve.csv")[0]["val_loss"]
    assert short.column("steps.csv", "loss") == long.column("steps.csv", "loss")[:8]


def test_arms_of_a_seed_share_their_data_and_those_of_a_model_their_weights(tmp_path):
    rows = {
        (model, optimizer, seed): run(tmp_path, spec_of(model, optimizer, seed, steps=1)).row
        for model, optimizer in ARMS
        for seed in (1, 2)
    }
    for seed in (1, 2):
        of_seed = [row for (_, _, its), row in rows.items() if its == seed]
        assert len({row["data_order_hash"] for row in of_seed}) == 1
    weights = {
        model: [
            rows[model, optimizer, seed]["init_hash"]
            for seed in (1, 2)
            for optimizer in OPTIMIZER_OPTIONS
        ]
        for model in MODEL_OPTIONS
    }
    for hashes in weights.values():
        of_first, of_second = (
            set(hashes[: len(OPTIMIZER_OPTIONS)]),
            set(hashes[len(OPTIMIZER_OPTIONS) :]),
        )
        assert len(of_first) == len(of_second) == 1
        assert of_first != of_second
    assert not set(weights["nanogpt"]) & set(weights["nanokimi"])
    assert len({row["data_order_hash"] for row in rows.values()}) == 2


@pytest.mark.parametrize("timing", ["every", "off"])
def test_how_steps_are_timed_changes_no_loss_and_is_part_of_the_identity(tmp_path, timing):
    spec = spec_of()
    other = dataclasses.replace(spec, train=dataclasses.replace(spec.train, step_timing=timing))
    assert other.run_id != spec.run_id
    first, second = run(tmp_path, spec), run(tmp_path, other)
    assert first.column("curve.csv", "val_loss") == second.column("curve.csv", "val_loss")
    assert len(second.table("steps.csv")) == (0 if timing == "off" else 10)
    assert ("step_time_ms_p50" in second.row) == (timing != "off")
    assert second.row["tokens_per_s"] == pytest.approx(160 / second.row["train_time_s"])


def test_warm_up_leaves_torchs_own_streams_as_they_were(tmp_path, monkeypatch):
    """A model with dropout draws from them; the first step must find them untouched."""
    states: list[Tensor] = []
    step = Trainer.step

    def drawing(self: Trainer, positions: Tensor) -> Tensor:
        states.append(torch.get_rng_state())
        torch.rand(3)
        return step(self, positions)

    monkeypatch.setattr(Trainer, "step", drawing)
    run(tmp_path, spec_of(steps=2))
    assert torch.equal(states[0], states[2])  # warm-up is as long as the run, 2 steps


def test_warm_up_leaves_buffers_as_they_were(tmp_path, monkeypatch):
    seen: list[float] = []
    build = cell.MODELS["nanogpt"]

    def with_counter(*arguments: Any) -> nn.Module:
        model = build(*arguments)
        model.register_buffer("calls", torch.zeros(()))
        return model

    step = Trainer.step

    def counting(self: Trainer, positions: Tensor) -> Tensor:
        seen.append(self.model.calls.item())
        self.model.calls += 1
        return step(self, positions)

    monkeypatch.setitem(cell.MODELS, "nanogpt", with_counter)
    monkeypatch.setattr(Trainer, "step", counting)
    run(tmp_path, spec_of(steps=2))
    assert seen == [0, 1, 0, 1]


@pytest.mark.parametrize("optimizer", OPTIMIZER_OPTIONS)
def test_the_state_of_warm_up_is_gone_before_the_new_one_is_made(tmp_path, monkeypatch, optimizer):
    """Both at once would be a peak of memory that training never has."""
    held: list[weakref.ref[Any]] = []
    entry = registry.OPTIMIZERS[optimizer]

    def build(*arguments: Any) -> list[torch.optim.Optimizer]:
        assert [reference() for reference in held] == [None] * len(held)
        made = entry.build(*arguments)
        held.extend(map(weakref.ref, made))  # whose state may come with the first step
        states = (state for each in made for state in each.state.values())
        held.extend(weakref.ref(value) for state in states for value in state.values())
        return made

    monkeypatch.setitem(registry.OPTIMIZERS, optimizer, dataclasses.replace(entry, build=build))
    assert run(tmp_path, spec_of("nanokimi", optimizer, steps=2)).row["steps"] == 2
    assert held
