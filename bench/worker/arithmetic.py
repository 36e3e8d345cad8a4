"""How a cell's process computes: in which number format, by which algorithms, compiled or not."""

import contextlib
import inspect
import os
from contextlib import AbstractContextManager

import torch
from torch.optim import Optimizer

from bench.border.options import TrainOptions

ANSWER = "__dynamo_disable"  # the attribute, in torch/_compile.py


def prepare(train: TrainOptions) -> None:
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
    if not train.compile:
        leave_out_compiler()


def leave_out_compiler() -> None:
    """Keep the methods that all optimizers share from importing torch._dynamo: a second, 70 MiB.

    At its first call each of them imports it, only to ask how to be passed over by it, and keeps
    the answer as an attribute. We give the answer that holds where nothing is compiled: the plain
    method. A torch that keeps its answer elsewhere imports the compiler as ever, and is slower to
    start, no more.
    """
    for method in (Optimizer.add_param_group, Optimizer.zero_grad):
        plain = inspect.unwrap(method)
        setattr(plain, ANSWER, plain)


def number_format(device: torch.device, train: TrainOptions) -> AbstractContextManager[object]:
    """The format of products and activations, for a forward pass."""
    if train.dtype == "float32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=getattr(torch, train.dtype))
