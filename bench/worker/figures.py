"""What a row tells of a training: its losses and the times of its steps."""

import math
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.worker.clocks import StepSample
from bench.worker.training import Trainer

# Fewer steps have no first and last third whose medians mean something.
DRIFT_STEPS = 30


def training_columns(trainer: Trainer) -> dict[str, Any]:
    timer, seconds = trainer.timer, trainer.clock.seconds["train"]
    row: dict[str, Any] = {
        "steps": trainer.done,
        "tokens": trainer.tokens,
        "epochs": trainer.epochs,
        "optimizer_state_mib": trainer.optimizer_state_mib,
        "passes_per_step": trainer.passes_per_step,
        "graph_steps_share": trainer.graph_steps_share,
    }
    if timer.steps:
        row["tokens_per_s"] = timer.steps * trainer.tokens_per_step / seconds
    if timer.samples:
        row |= step_time_columns(timer.samples)
    if trainer.curve:
        row["val_loss_best"] = min(point.val_loss for point in trainer.curve)
    if trainer.done == len(trainer.positions) and trainer.curve[-1].step == trainer.done:
        last = trainer.curve[-1]
        row |= {
            "train_loss_final": last.train_loss,
            "val_loss_final": last.val_loss,
            "test_loss_final": trainer.test_loss,
            "perplexity": _exp(last.val_loss),
            "bits_per_char": last.val_loss / math.log(2),
        }
    return row


def step_time_columns(samples: list[StepSample]) -> dict[str, float | None]:
    """Percentiles over steps: a sample of several steps counts for each of them."""
    times_ms = np.repeat(
        [sample.time_ms / sample.steps for sample in samples], [sample.steps for sample in samples]
    )
    keys = ("step_time_ms_p50", "step_time_ms_p90", "step_time_ms_p99")
    row: dict[str, float | None] = dict(zip(keys, percentiles(times_ms, 50, 90, 99), strict=True))
    third = len(times_ms) // 3
    if len(times_ms) >= DRIFT_STEPS:
        first, last = np.median(times_ms[:third]), np.median(times_ms[-third:])
        row["step_time_drift_pct"] = float(100 * (last / first - 1)) if first else None
    return row


def _exp(loss: float) -> float | None:
    """The perplexity of a loss; None where no float can hold it (from a loss of 709.8)."""
    return math.exp(loss) if loss < math.log(sys.float_info.max) else None


def percentiles(values: Sequence[float] | np.ndarray, *ranks: int) -> list[float]:
    return [float(value) for value in np.percentile(values, ranks)]
