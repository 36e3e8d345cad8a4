"""Number formats, algorithms that repeat, compiled models, and steps that find their own place."""

import dataclasses
import itertools
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from bench.border.options import MODEL_OPTIONS, TrainOptions
from bench.border.spec import Model
from bench.worker.arithmetic import prepare, told_of_cache
from bench.worker.training import Trainer
from tests.builders.compiled_runs import plain_and_compiled
from tests.builders.shared import ROOT, without
from tests.builders.worker_cells import asking, run, spec_of

MODELS = [("nanogpt", {}), ("nanokimi", {}), ("nanokimi", {"gating": "topk"})]
OPTIMIZERS = ["adamw", "truemuon", "muonclip"]


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A cell settles these for its process; here it shares one with other tests."""
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    threads, filled = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


# --- number formats -----------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize(("model", "options"), MODELS)
def test_bfloat16_is_close_to_float32_and_not_the_same(tmp_path, model, options, optimizer):
    """bfloat16 has 8 bits: 0.4 % a number."""
    plain = spec_of(model, optimizer, steps=8)
    made = MODEL_OPTIONS[model](n_embd=8, n_layer=1, n_head=2, **options)
    plain = dataclasses.replace(plain, model=Model("tiny", model, made))
    expected, found = run(tmp_path, plain).losses(), run(tmp_path, asking(plain, dtype="bfloat16"))
    assert found.losses() == pytest.approx(expected, rel=0.02)
    assert found.losses() != expected
    assert found.row["val_loss_final"] != run(tmp_path, plain).row["val_loss_final"]


def test_weights_and_their_updates_stay_float32(tmp_path, monkeypatch):
    seen: set[torch.dtype] = set()
    capture = Trainer.run

    def look(trainer: Trainer, *arguments: Any) -> None:
        capture(trainer, *arguments)
        states = (state for each in trainer.optimizers for state in each.state.values())
        kept = [value for state in states for value in state.values() if isinstance(value, Tensor)]
        seen.update(tensor.dtype for tensor in (*trainer.model.parameters(), *kept, trainer.losses))

    monkeypatch.setattr(Trainer, "run", look)
    run(tmp_path, asking(spec_of(), dtype="bfloat16")).losses()
    assert seen == {torch.float32}


@pytest.mark.parametrize(("asked", "found"), [("float32", "highest"), ("tf32", "high")])
def test_products_of_float32_compute_in_what_is_asked(asked, found):
    torch.set_float32_matmul_precision("medium")
    prepare(TrainOptions(matmul_precision=asked))
    assert torch.get_float32_matmul_precision() == found


# --- algorithms ---------------------------------------------------------------------------------


def test_deterministic_leaves_no_other_algorithm(tmp_path):
    run(tmp_path, asking(spec_of(), deterministic=True)).losses()
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    with pytest.raises(RuntimeError, match="deterministic"):
        torch.empty(4).put_(torch.tensor([0, 0]), torch.tensor([1.0, 2.0]), accumulate=False)


COMPILED = """\
name: compiled
data: {corpus: pydoc}
train: {steps: 20, batch_size: 2, block_size: 8, step_timing: every}
eval: {every: 20, train_windows: 4}
matrix: {model: [nanogpt, nanokimi], optimizer: [truemuon], device: [cpu], seed: [1]}
"""


@pytest.mark.slow
def test_a_compiled_model_has_the_same_losses(tmp_path):
    plain, compiled = plain_and_compiled(tmp_path, COMPILED)
    assert set(plain) == {"nanogpt", "nanokimi"}
    for model, row in compiled.items():
        assert float(row["compile_time_s"]) > 0
        assert row["init_hash"] == plain[model]["init_hash"]
        loss = float(plain[model]["val_loss_final"])
        assert float(row["val_loss_final"]) == pytest.approx(loss, rel=1e-4)


def test_compiling_without_a_compiler_says_where_there_is_one(tmp_path, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    ran = run(tmp_path, asking(spec_of(), compile=True))
    assert ran.result["status"] == "crashed"
    assert "Install g++, name another one by CXX, run in a container" in ran.result["reason"]


@pytest.mark.parametrize(
    ("counted", "told"),
    [
        ({}, None),  # by another compiler
        ({"fxgraph_cache_hit": 2}, "warm"),
        ({"fxgraph_cache_miss": 1, "fxgraph_cache_bypass": 1}, "cold"),
        ({"fxgraph_cache_hit": 1, "fxgraph_cache_miss": 2}, "1 of 3"),
    ],
)
def test_how_much_was_compiled_before_is_what_the_compiler_counts(monkeypatch, counted, told):
    from torch._dynamo.utils import counters

    monkeypatch.setitem(counters, "inductor", Counter(counted))
    assert told_of_cache() == told


@pytest.mark.slow
@pytest.mark.parametrize("switch", ["TORCHDYNAMO_DISABLE", "TORCH_COMPILE_DISABLE"])
def test_a_switch_that_leaves_a_model_uncompiled_is_told(switch):
    """In an image, whose variables reach a worker. `torch.compile` then says nothing."""
    if shutil.which("g++") is None:
        without("torch.compile needs g++")
    text = """
import torch
from bench.worker.arithmetic import check_compiled
torch.compile(torch.nn.Linear(2, 2))(torch.ones(2))
check_compiled()
"""
    ended = python(text, **{switch: "1"})
    assert f"torch compiled nothing, for {switch} is set. Change that, or leave out" in ended.stderr


COMPILED_AGAIN = """
import torch
from bench.border.options import TrainOptions
from bench.worker.arithmetic import check_compiled, compiled_once
model = torch.compile(torch.nn.Linear(2, 2), backend="eager")
model(torch.ones(4, 2))
check_compiled()
with compiled_once(TrainOptions(compile=True)):
    model(torch.ones(4, 2))
    print("the same shapes go on", flush=True)
    model(torch.ones(6, 2))
"""


@pytest.mark.slow
def test_a_model_that_is_compiled_again_while_it_trains_is_refused():
    ended = python(COMPILED_AGAIN)
    assert ended.stdout == "the same shapes go on\n"
    assert "RuntimeError: train.compile: the model had to be compiled again" in ended.stderr
    assert "Leave out train.compile. Torch says: " in ended.stderr


def python(text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A process of its own, which torch.compile leaves its mark on."""
    return subprocess.run(
        [sys.executable, "-c", text],
        cwd=ROOT,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("at", ["warmup", "train"])
def test_threads_that_were_not_asked_for_are_told(tmp_path, monkeypatch, at):
    """As where brought code chooses for itself: the row has what it was, and why it is refused."""
    plain, first = Trainer.step, {"warmup": 0, "train": 7}[at]
    steps = itertools.count()

    def greedy(trainer: Trainer, positions: Tensor) -> Any:
        if next(steps) == first:
            torch.set_num_threads(3)
        return plain(trainer, positions)

    monkeypatch.setattr(Trainer, "step", greedy)
    ran = run(tmp_path, spec_of(steps=8))
    assert (ran.result["status"], ran.row["threads"]) == ("crashed", 3)
    assert "train.threads is 1, and the model or the optimizer made it 3" in ran.result["reason"]
