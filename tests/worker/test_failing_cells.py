"""A cell that does not end well says how, and keeps what was known by then."""

import math
import signal
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bench.border.tokenised import tokenise
from bench.records.columns import RUN_COLUMNS
from bench.worker import cell, lifeline, training
from bench.worker.training import Trainer
from tests.builders.worker_cells import run, spec_of

FINITE_BUT_HUGE = 1e2  # AdamW at this rate: losses of thousands, none infinite


def fail_at(monkeypatch: pytest.MonkeyPatch, call: int, failure: Callable[[], Any]) -> None:
    """Let the call-th training step, warm-up's included, fail."""
    step, calls = Trainer.step, iter(range(1_000_000))

    def failing(self: Trainer, positions: Tensor) -> Tensor:
        return failure() if next(calls) == call else step(self, positions)

    monkeypatch.setattr(Trainer, "step", failing)


def test_a_cell_that_diverges_is_a_result(tmp_path):
    ran = run(tmp_path, spec_of(steps=30, every=50, lr=1e6))
    assert ran.code == 0
    assert (ran.result["status"], ran.result["stage"]) == ("diverged", "train")
    losses = [float(loss) for loss in ran.column("steps.csv", "loss")]
    step = next(step for step, loss in enumerate(losses) if not math.isfinite(loss))
    assert ran.result["reason"] == (
        f"the loss is not finite at step {step}; the last finite loss was {losses[step - 1]:.6g}"
    )
    assert ran.row["steps"] == step
    assert ran.column("curve.csv", "step") == ["0"]
    assert ran.row["val_loss_best"] == float(ran.column("curve.csv", "val_loss")[0])
    unknown = {"val_loss_final", "train_loss_final", "perplexity", "bits_per_char"}
    assert not {name for name in unknown if ran.row.get(name) is not None}
    assert "param_efficiency" not in ran.row


def test_a_loss_that_is_huge_but_finite_is_a_result(tmp_path):
    ran = run(tmp_path, spec_of(steps=14, every=14, lr=FINITE_BUT_HUGE))
    assert (ran.code, ran.result["status"]) == (0, "ok")
    assert ran.row["val_loss_final"] > 100


@pytest.mark.parametrize("loss", [0.0, 700.0, 705.0, 709.7, 709.8, 3_000.0, 3.4e38])
def test_a_figure_that_no_float_holds_is_left_empty(tmp_path, monkeypatch, loss):
    """exp(709.8) is beyond a float, and so is exp(705) / 0.0014 million parameters."""
    monkeypatch.setattr(cell.Evaluator, "loss", lambda *of: loss)
    ran = run(tmp_path, spec_of(steps=1))
    assert (ran.code, ran.result["status"], ran.row["val_loss_final"]) == (0, "ok", loss)
    assert ran.row["bits_per_char"] == pytest.approx(loss / math.log(2))
    assert (ran.row.get("perplexity") is not None) == (loss < 709.78)
    assert (ran.row.get("param_efficiency") is not None) == (loss <= 700)


def test_tokens_that_are_missing_are_a_crash_with_a_reason(tmp_path, capsys):
    ran = run(tmp_path, spec_of(), corpus=tmp_path / "absent.tokens")
    assert ran.code == 1
    assert (ran.result["status"], ran.result["stage"]) == ("crashed", "data")
    assert ran.result["reason"].startswith("FileNotFoundError: ")
    assert "absent.tokens" in ran.result["reason"]
    assert "Traceback" in capsys.readouterr().err
    assert not (ran.folder / "curve.csv").exists()
    assert set(ran.row) <= set(RUN_COLUMNS)
    assert not {"steps", "val_loss_final", "init_hash"} & set(ran.row)


def test_tokens_of_another_text_are_a_crash_with_a_reason(tmp_path):
    (tmp_path / "other").write_bytes(tokenise("another text"))
    ran = run(tmp_path, spec_of(), corpus=tmp_path / "other")
    assert (ran.code, ran.result["status"]) == (1, "crashed")
    assert f"tokens of the text with SHA-256 {spec_of().corpus.sha256}" in ran.result["reason"]


def test_cuda_without_a_gpu_is_a_crash_and_never_the_cpu(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ran = run(tmp_path, spec_of(device="cuda"))
    assert (ran.code, ran.result["status"]) == (1, "crashed")
    assert "asks for cuda, and torch finds no usable GPU" in ran.result["reason"]
    assert ran.events == [{"stage": "teardown"}]


def test_numpys_allocator_failing_is_out_of_memory(tmp_path, monkeypatch):
    fail_at(monkeypatch, 2, lambda: np.empty(2**60, dtype=np.uint8))
    ran = run(tmp_path, spec_of())
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "oom", "warmup")
    assert "Unable to allocate" in ran.result["reason"]


def test_torchs_own_allocator_failing_is_out_of_memory(tmp_path, monkeypatch):
    fail_at(monkeypatch, 2, lambda: torch.empty(2**60, dtype=torch.uint8))
    ran = run(tmp_path, spec_of())
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "oom", "warmup")


def test_a_crash_in_the_middle_keeps_what_was_known_by_then(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HEARTBEAT_S", 0.0)  # a span is a step
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, lambda: [][0])
    ran = run(tmp_path, spec_of(steps=10, every=4))
    assert (ran.code, ran.result["status"], ran.result["stage"]) == (1, "crashed", "train")
    assert ran.result["reason"] == "IndexError: list index out of range"
    assert ran.column("curve.csv", "step") == ["0", "4"]
    assert ran.column("steps.csv", "step") == [str(step) for step in range(6)]
    assert (ran.row["steps"], ran.row["tokens"]) == (6, 6 * 16)
    assert ran.row["train_time_s"] > 0
    assert "val_loss_final" not in ran.row
    assert ran.row["val_loss_best"] == min(map(float, ran.column("curve.csv", "val_loss")))


def test_being_stopped_is_told_with_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(lifeline, "_heard", [])
    monkeypatch.setattr(training, "HEARTBEAT_S", 0.0)
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, lambda: lifeline._leave(signal.SIGTERM, None))
    ran = run(tmp_path, spec_of(steps=10, every=4))
    assert (ran.code, ran.result["status"]) == (1, "interrupted")
    assert ran.result["reason"] == "stopped by SIGTERM"
    assert ran.row["steps"] == 6


def test_a_cell_that_stops_itself_as_if_it_were_told_to_has_crashed(tmp_path, monkeypatch):
    def stop() -> None:
        raise lifeline.TerminatedError("stopped by SIGTERM")

    fail_at(monkeypatch, cell.WARMUP_STEPS + 1, stop)
    ran = run(tmp_path, spec_of(steps=10, every=4))
    assert (ran.code, ran.result["status"]) == (1, "crashed")
    assert ran.result["reason"] == "TerminatedError: stopped by SIGTERM"


def test_a_crash_within_a_span_keeps_the_times_of_its_whole_steps(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "HEARTBEAT_S", 1e9)  # after the first, a span is all steps
    fail_at(monkeypatch, cell.WARMUP_STEPS + 6, lambda: [][0])
    ran = run(tmp_path, spec_of(steps=10, every=10))
    assert ran.column("steps.csv", "step") == [str(step) for step in range(6)]
