"""Columns that follow from a worker's figures and from what the launching side alone knows."""

import math
from collections.abc import Mapping
from typing import Any

from bench.border.spec import RunSpec
from bench.measure.peaks import mfu_pct, peak_tflops


def derived_columns(
    spec: RunSpec,
    row: Mapping[str, Any],
    gpu_name: str | None,
    val_bytes_per_token: float | None,
) -> dict[str, float | None]:
    """Of a run of our own training; nothing of a program, whose arithmetic and text nobody knows.

    `row`: what is known of the run, as of a cell's result. `val_bytes_per_token`: UTF-8 bytes that
    a token of the validation split stands for, in the mean.
    """
    if spec.program is not None:
        return {}
    peak = peak_tflops(gpu_name, spec.train)
    return {
        "bits_per_byte": _finite(_bits_per_byte(row.get("val_loss_final"), val_bytes_per_token)),
        "mfu_pct": _finite(mfu_pct(row.get("flops_per_token"), row.get("tokens_per_s"), peak)),
        "peak_tflops": peak,
    }


def _bits_per_byte(val_loss: float | None, bytes_per_token: float | None) -> float | None:
    """Of a loss in nats a token."""
    if val_loss is None or bytes_per_token is None:
        return None
    return val_loss / math.log(2) / bytes_per_token


def _finite(value: float | None) -> float | None:
    """A brought class may tell a count, and a loss may be, that no float holds the product of."""
    return value if value is not None and math.isfinite(value) else None
