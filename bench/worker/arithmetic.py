"""How a cell computes: in which number format, and by which algorithms."""

import contextlib
import os
from contextlib import AbstractContextManager

import torch

from bench.border.options import TrainOptions


def settle(train: TrainOptions) -> None:
    """Settings of the whole process; call before CUDA is first used."""
    torch.set_num_threads(train.threads)
    torch.set_float32_matmul_precision("high" if train.matmul_precision == "tf32" else "highest")
    if train.deterministic:
        # cuBLAS reads it as it is loaded: two workspaces of a fixed size, the same in each run
        # (CUDA's documentation, "results reproducibility").
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(True)
        # Ours is never read; filling it would be a kernel more for each tensor made.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def number_format(device: torch.device, train: TrainOptions) -> AbstractContextManager[object]:
    """The format of products and activations, for a forward pass."""
    if train.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, train.dtype))
