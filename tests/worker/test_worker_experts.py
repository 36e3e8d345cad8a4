"""Cells whose tokens choose their experts, and cells that drop some on the way."""

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.options import NanoKimiOptions
from bench.border.spec import Model, RunSpec
from tests.builders.worker_cells import Ran, plain_losses, run, spec_of

OPTIMIZERS = ("adamw", "truemuon")


def kimi(optimizer: str = "adamw", steps: int = 10, every: int = 4, **options: Any) -> RunSpec:
    sizes = {"n_embd": 8, "n_layer": 2, "n_head": 2, "n_experts": 5, "gating": "topk"}
    model = Model("tiny", "nanokimi", NanoKimiOptions(**sizes | options))
    return replace(spec_of("nanokimi", optimizer, steps=steps, every=every), model=model)


def numbers(ran: Ran, column: str) -> list[float]:
    return [float(text) for text in ran.column("curve.csv", column)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(
    "balance",
    [
        {"balance": "none"},
        {"balance": "aux", "aux_coefficient": 3.0},
        {"balance": "bias", "bias_rate": 0.2},
        {"router": "sigmoid", "n_shared_experts": 1},
    ],
    ids=str,
)
def test_warm_up_evaluation_and_clocks_change_no_loss(tmp_path, balance, optimizer):
    """Not even the biases of a router, which every training step moves."""
    torch.set_num_threads(1)
    spec = kimi(optimizer, steps=12, **balance)
    ran = run(tmp_path, spec)
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    assert losses == plain_losses(spec, tmp_path / "tokens")


def test_the_auxiliary_loss_is_minimised_and_not_reported(tmp_path):
    asked = {"steps": 100, "every": 100, "balance": "aux", "n_experts": 8}
    runs = [run(tmp_path, kimi(**asked, aux_coefficient=each)) for each in (1e-9, 10.0)]
    first = [ran.column("steps.csv", "loss")[0] for ran in runs]
    assert first[0] == first[1]
    assert runs[0].column("steps.csv", "loss") != runs[1].column("steps.csv", "loss")
    free, held = (numbers(ran, "expert_load_max")[-1] for ran in runs)
    assert held < free


def test_the_curve_tells_load_and_entropy_of_models_with_experts(tmp_path):
    for gating in ("topk", "all"):
        ran = run(tmp_path, kimi(gating=gating))
        assert all(1 <= load <= 5 for load in numbers(ran, "expert_load_max"))
        assert all(0 < entropy <= math.log(5) for entropy in numbers(ran, "router_entropy"))
        assert len(set(numbers(ran, "router_entropy"))) == 4  # evaluations
    dense = run(tmp_path, spec_of())
    for column in ("expert_load_max", "router_entropy"):
        assert dense.column("curve.csv", column) == [""] * 4


def test_the_curve_tells_sizes(tmp_path):
    ran = run(tmp_path, kimi())
    for column in ("n_params", "n_params_active", "optimizer_state_mib"):
        assert numbers(ran, column) == [ran.row[column]] * 4
    assert ran.row["n_params_active"] < ran.row["n_params"]


# --- Pruning ------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("gating", ["topk", "all"])
def test_a_cell_that_drops_experts_goes_on_and_tells_its_sizes(tmp_path, gating, optimizer):
    ran = run(tmp_path, kimi(optimizer, gating=gating, prune_every=3, prune_to=3))
    assert (ran.code, ran.row["steps"]) == (0, 10)
    assert ran.column("curve.csv", "step") == ["0", "4", "8", "10"]
    active, state = numbers(ran, "n_params_active"), numbers(ran, "optimizer_state_mib")
    row_of_gate = 2 * 9  # in two blocks
    expert = 2 * (3 * 8 * 8 + 3 * 8) + row_of_gate
    assert losses_of(numbers(ran, "n_params")) == [expert, expert, 0]  # 3 left: no more to drop
    lost = expert if gating == "all" else row_of_gate  # top_k stay active
    assert losses_of(active) == [lost, lost, 0]
    assert state[0] > state[1] > state[2] == state[3] == ran.row["optimizer_state_mib"]


def losses_of(counts: list[float]) -> list[float]:
    return [before - after for before, after in pairwise(counts)]


def test_figures_that_pruning_makes_meaningless_are_empty(tmp_path):
    row = run(tmp_path, kimi(prune_every=3, prune_to=3)).row
    for column in ("flops_per_token", "optimizer_flops_per_step"):
        assert row[column] is None
    assert "param_efficiency" not in row
    assert row["perplexity"] > 1


def test_pruning_is_the_same_every_time_and_wherever_evaluations_are(tmp_path):
    spec = kimi(steps=20, prune_every=6, prune_to=2)
    often = replace(spec, eval=replace(spec.eval, every=1))
    ends = [steps_of(run(tmp_path, each)) for each in (spec, spec, often)]
    assert ends[0] == ends[1] == ends[2]
    whole = steps_of(run(tmp_path, kimi(steps=20)))
    assert whole[:6] == ends[0][:6]
    assert whole[7:] != ends[0][7:]


def steps_of(ran: Ran) -> list[str]:
    return ran.column("steps.csv", "loss")


def test_nothing_is_dropped_after_the_last_step(tmp_path):
    ran = run(tmp_path, kimi(steps=6, prune_every=6, prune_to=2))
    assert len(set(numbers(ran, "n_params"))) == 1


def test_the_time_of_pruning_is_training_time(tmp_path: Path):
    ran = run(tmp_path, kimi(prune_every=1, prune_to=2))
    steps_s = sum(float(text) for text in ran.column("steps.csv", "time_ms")) / 1000
    assert ran.row["train_time_s"] > steps_s
