"""Whole cells of a decoder of today: what warm-up, evaluation, formats and pruning leave alone."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.options import MODEL_OPTIONS
from bench.border.spec import Model, RunSpec
from tests.builders.compiled_runs import plain_and_compiled
from tests.builders.worker_cells import asking, plain_losses, run, spec_of

OF_TODAY: dict[str, Any] = {
    "norm": "rmsnorm",
    "position": "rope",
    "activation": "relu2",
    "bias": False,
    "tied_head": True,
}
MIXTURE = {"n_experts": 4, "gating": "topk", "n_shared_experts": 1, "balance": "bias"}
PRUNED = {"prune_every": 3, "prune_to": 2}


def of_today(model: str, optimizer: str, steps: int = 12, **more: Any) -> RunSpec:
    asked = {"n_embd": 8, "n_layer": 2, "n_head": 2, "qk_norm": optimizer != "muonclip"}
    options = MODEL_OPTIONS[model](**asked | OF_TODAY | more)
    spec = spec_of(model, optimizer, steps=steps)
    return dataclasses.replace(spec, model=Model("of-today", model, options))


@pytest.mark.parametrize("optimizer", ["adamw", "truemuon", "muonclip"])
@pytest.mark.parametrize(
    ("model", "more"), [("nanogpt", {}), ("nanokimi", {}), ("nanokimi", MIXTURE)], ids=str
)
def test_warm_up_evaluation_and_clocks_change_no_loss(tmp_path, model, more, optimizer):
    torch.set_num_threads(1)
    spec = of_today(model, optimizer, **more)
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")
    assert ran.row["flops_per_token"] > 0


@pytest.mark.parametrize(("model", "more"), [("nanogpt", {}), ("nanokimi", MIXTURE)], ids=str)
def test_in_bfloat16_losses_are_near_those_in_float32(tmp_path, model, more):
    spec = of_today(model, "muon", **more)
    plain = run(tmp_path, spec).losses()
    narrow = run(tmp_path, asking(spec, dtype="bfloat16")).losses()
    assert narrow == pytest.approx(plain, rel=0.03)
    assert narrow != plain


@pytest.mark.parametrize("optimizer", ["adamw", "muon", "muonclip"])
@pytest.mark.parametrize("gating", ["all", "topk"])
def test_experts_without_biases_are_pruned(tmp_path, gating, optimizer):
    ran = run(tmp_path, of_today("nanokimi", optimizer, gating=gating, n_experts=4, **PRUNED))
    assert ran.result["status"] == "ok", ran.result["reason"]
    # relu2 at d = 8: 12 units, 2 x 8 x 12 a matrix pair, and a row of the router; 2 blocks
    first, *_, last = (int(n) for n in ran.column("curve.csv", "n_params"))
    assert first - last == 2 * 2 * (2 * 8 * 12 + 8)


COMPILED = """\
name: compiled
data: {corpus: pydoc}
train: {steps: 20, batch_size: 2, block_size: 8, step_timing: every}
eval: {every: 20, train_windows: 4}
matrix: {model: [of-today], optimizer: [adamw], device: [cpu], seed: [1]}
models:
  of-today:
    {base: nanokimi, n_layer: 2, norm: rmsnorm, position: rope, qk_norm: true, activation: relu2,
    bias: false, tied_head: true}
"""


@pytest.mark.slow
def test_compiled_it_has_the_same_losses(tmp_path: Path) -> None:
    plain, compiled = (rows for (rows,) in map(dict.values, plain_and_compiled(tmp_path, COMPILED)))
    assert float(compiled["compile_time_s"]) > 0
    loss = float(plain["val_loss_final"])
    assert float(compiled["val_loss_final"]) == pytest.approx(loss, rel=1e-4)
