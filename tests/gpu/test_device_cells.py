"""Whole cells in the tests' own process, on a CPU and on a GPU: what they compute.

A cell from the command line takes 8 s of start on a machine with a GPU, one here less than one.
"""

import hashlib
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.border.options import (
    FIRST_STEPS,
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    EvalOptions,
    TrainOptions,
)
from bench.border.spec import CorpusRef, Model, Optimizer, RunSpec
from bench.border.tokenised import tokenise
from bench.records.corpora import find_corpus
from bench.worker import evaluation
from tests.builders.twins import PER_ARM
from tests.builders.words import words
from tests.builders.worker_cells import asking, plain_losses, run, spec_of
from tests.gpu import command_line

OPTIMIZERS = ["adamw", "sgd", "truemuon", "muon", "muonclip"]
PAIRS = list(product(MODEL_OPTIONS, OPTIMIZERS))
PER_PAIR = pytest.mark.parametrize(("model", "optimizer"), PAIRS, ids=map("-".join, PAIRS))
# What twenty steps may differ by. Newton-Schulz in bfloat16, three digits, enlarges what sums in
# another order do to the last digit of float32.
NEAR = {"adamw": 1e-4, "sgd": 1e-4, "truemuon": 1e-4, "muon": 1e-3, "muonclip": 1e-3}
NARROW: dict[str, list[dict[str, str]]] = {
    "cpu": [{"dtype": "bfloat16"}],
    "cuda": [{"dtype": "bfloat16"}, {"matmul_precision": "tf32"}],
}


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluations of several chunks, also of a short text."""
    monkeypatch.setattr(evaluation, "EVAL_TOKENS", {"cpu": 32, "cuda": 32})


def twenty(model: str, optimizer: str, device: str, **settings: Any) -> RunSpec:
    """Small, and every step timed by itself."""
    spec = spec_of(model, optimizer, device=device, steps=20, every=10)
    return asking(spec, step_timing="every", **settings)


@pytest.mark.usefixtures("small_chunks")
@PER_PAIR
def test_the_first_losses_are_those_of_a_plain_loop_on_a_cpu(tmp_path, device, model, optimizer):
    spec = twenty(model, optimizer, device)
    found = list(run(tmp_path, spec).losses().values())
    expected = plain_losses(spec, tmp_path / "tokens")
    assert len(found) == 20
    assert found[0] == pytest.approx(expected[0], rel=1e-5)
    assert found == pytest.approx(expected, rel=NEAR[optimizer])


SETTINGS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "schedule": {"schedule": "cosine", "warmup_steps": 5, "clip_norm": 0.2},
    "narrow": {"dtype": "bfloat16"},
}
IN_GRAPHS = [(*pair, "as it is") for pair in PAIRS]
IN_GRAPHS += list(product(["nanokimi"], OPTIMIZERS, ["schedule", "narrow"]))


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(
    ("model", "optimizer", "settings"), IN_GRAPHS, ids=map("-".join, IN_GRAPHS)
)
def test_steps_and_evaluations_in_graphs_are_those_by_themselves(
    tmp_path, device, model, optimizer, settings
):
    spec = twenty(model, optimizer, device, **SETTINGS[settings])
    alone, found = run(tmp_path, spec), run(tmp_path, asking(spec, graph_steps=4))
    near = max(NEAR[optimizer], 1e-3 if settings == "narrow" else 0)
    expected = alone.losses()
    assert list(found.losses()) == [0, 1, 2, 6, 7, 8, 9, 13, 17, 18, 19]  # where a launch ended
    for step, loss in found.losses().items():
        assert loss == pytest.approx(expected[step], rel=near), step
    for column in ("train_loss", "val_loss", "expert_load_max", "router_entropy"):
        one, other = (numbers(ran.column("curve.csv", column)) for ran in (found, alone))
        assert one == pytest.approx(other, rel=near), column
    assert found.row["graph_steps_share"] == (20 - FIRST_STEPS) / 20
    assert found.row["compile_time_s"] > 0
    assert alone.row["graph_steps_share"] is None


def numbers(column: list[str]) -> list[float]:
    return [float(value) for value in column if value]


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:TensorFloat32 tensor cores")  # float32 is meant
@pytest.mark.usefixtures("gpu", "small_chunks")
def test_a_compiled_model_is_what_a_graph_holds(tmp_path):
    """What is written for a CPU cannot be recorded; tests/worker/test_graphs.py has the rest."""
    spec = twenty("nanokimi", "truemuon", "cuda")
    plain = run(tmp_path, spec).losses()
    found = run(tmp_path, asking(spec, compile=True, graph_steps=4))
    torch._dynamo.reset()
    assert found.row["graph_steps_share"] == (20 - FIRST_STEPS) / 20
    for step, loss in found.losses().items():
        assert loss == pytest.approx(plain[step], rel=1e-4), step


@pytest.mark.slow
@pytest.mark.usefixtures("small_chunks")
@PER_ARM
def test_deterministic_cells_repeat_to_the_last_digit(tmp_path, device, model, optimizer):
    spec = twenty(model, optimizer, device, deterministic=True)
    for settings in ({}, {"graph_steps": 4}):
        first, again = (run(tmp_path, asking(spec, **settings)).losses() for _ in range(2))
        assert first == again


@pytest.mark.slow
@pytest.mark.parametrize(("model", "optimizer"), [("nanogpt", "adamw"), ("nanokimi", "truemuon")])
def test_deterministic_cells_repeat_to_the_last_digit_in_another_process(
    tmp_path, device, model, optimizer
):
    """One from the command line, and what it was asked for once more in the tests' own process."""
    steps, size = (200, "") if device == "cuda" else (20, ", n_embd: 8, n_layer: 1, n_head: 2")
    file = command_line.matrix(
        tmp_path,
        f"sized+{optimizer}",
        device,
        models=f"sized: {{base: {model}{size}}}",
        train=f"steps: {steps}, deterministic: true, step_timing: every",
        eval=f"every: {steps}, train_windows: 10",
    )
    row = command_line.run(file)
    first = command_line.losses(file, row)
    spec = RunSpec.from_json((command_line.folder_of(file, row) / "spec.json").read_text())
    tokens = find_corpus("pydoc").store_tokens()
    assert len(first) == steps
    assert run(tmp_path, spec, tokens).losses() == first


@PER_ARM
def test_narrower_formats_train_nearly_as_well(tmp_path, device, model, optimizer):
    spec, tokens = spec_of(model, optimizer, steps=30, every=30), None
    if device == "cuda":  # fast enough for the published comparison's sizes
        spec, tokens = original(model, optimizer), tmp_path / "words.tokens"
        tokens.write_bytes(tokenise(words()))
    expected = loss_of(tmp_path, spec, tokens)
    for settings in NARROW[device]:
        loss = loss_of(tmp_path, asking(spec, **settings), tokens)
        assert loss != expected
        assert loss == pytest.approx(expected, abs=0.05), settings


def original(model: str, optimizer: str) -> RunSpec:
    """300 steps in graphs, and how well they trained."""
    return RunSpec(
        model=Model(model, model, MODEL_OPTIONS[model]()),
        optimizer=Optimizer(optimizer, optimizer, OPTIMIZER_OPTIONS[optimizer]()),
        device="cuda",
        seed=1,
        train=TrainOptions(steps=300, graph_steps=20),
        eval=EvalOptions(every=300, train_windows=10),
        corpus=CorpusRef("words", hashlib.sha256(words().encode()).hexdigest()),
    )


def loss_of(folder: Path, spec: RunSpec, tokens: Path | None) -> float:
    ran = run(folder, spec, tokens)
    assert ran.result["status"] == "ok", ran.result["reason"]
    return ran.row["val_loss_final"]
