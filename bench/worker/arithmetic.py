"""How a cell's process computes: in which number format, by which algorithms, compiled or not."""

import contextlib
import inspect
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch.optim import Optimizer

from bench.border.options import TrainOptions
from bench.worker.repeats import Reads

ANSWER = "__dynamo_disable"  # the attribute, in torch/_compile.py
# Methods that cells call, and that torch has ask torch._dynamo how to be passed over by it.
ASKING: tuple[Any, ...] = (
    inspect.unwrap(Optimizer.add_param_group),
    inspect.unwrap(Optimizer.zero_grad),
    inspect.unwrap(Reads.__torch_dispatch__),
)


def prepare(train: TrainOptions) -> None:
    """Settings of the whole process; call before CUDA is first used."""
    torch.set_num_threads(train.threads)
    torch.set_float32_matmul_precision(matmul_precision(train))
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
    """Keep what cells call from importing torch._dynamo, which takes a second and 70 MiB.

    That are the methods that all optimizers share, and what watches a step before graphs are
    captured. At its first call each of them imports it, only to ask how to be passed over by it,
    and keeps the answer as an attribute. We give the answer that holds where nothing is compiled:
    the plain method. A torch that keeps its answer elsewhere imports the compiler as ever, and is
    slower to start, no more.
    """
    for plain in ASKING:
        setattr(plain, ANSWER, plain)


def check_compiled() -> None:
    """After the step in which the model was to be compiled: whether torch did it.

    Raises:
        RuntimeError: where it left the model as it was, as some variables of an image ask for.
    """
    if not torch._dynamo.utils.counters["stats"]["unique_graphs"]:
        switches = ("TORCH_COMPILE_DISABLE", "TORCHDYNAMO_DISABLE")
        found = [name for name in switches if os.environ.get(name)]
        why = f"{' and '.join(found)} is set" if found else "the model forbids it"
        raise RuntimeError(
            f"train.compile: torch compiled nothing, for {why}. Change that, or leave out "
            "train.compile"
        )


def told_of_cache() -> str | None:
    """How much of what was compiled came from the compiler's cache, by its own count of graphs.

    None where it does not tell, as with another compiler than Inductor.
    """
    found = torch._dynamo.utils.counters["inductor"]
    hits = found["fxgraph_cache_hit"]
    graphs = hits + found["fxgraph_cache_miss"] + found["fxgraph_cache_bypass"]
    if not graphs:
        return None
    return {graphs: "warm", 0: "cold"}.get(hits, f"{hits} of {graphs}")


@contextlib.contextmanager
def compiled_once(train: TrainOptions) -> Iterator[None]:
    """Steps in which nothing is compiled any more: that would count as the time of a step.

    Raises:
        RuntimeError: where torch has to compile again.
    """
    if not train.compile:
        yield
        return
    try:
        with torch._dynamo.config.patch(error_on_recompile=True):
            yield
    except torch._dynamo.exc.RecompileError as error:
        raise RuntimeError(
            "train.compile: the model had to be compiled again after warm-up, since its shapes or "
            "its code change from step to step; step times would hold that. Leave out "
            "train.compile. Torch says: " + next(iter(str(error).splitlines()), "")[:300]
        ) from error


def check_unchanged(train: TrainOptions) -> None:
    """After steps of the model: whether the process computes as the matrix asks.

    Raises:
        RuntimeError: where brought code chose for itself.
    """
    if (found := torch.get_num_threads()) != train.threads:
        raise RuntimeError(
            f"train.threads is {train.threads}, and the model or the optimizer made it {found}. "
            "Leave torch.set_num_threads to the matrix"
        )
    wanted = {
        "matmul_precision": (torch.get_float32_matmul_precision(), matmul_precision(train)),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), train.deterministic),
        "dtype": (torch.get_default_dtype(), torch.float32),
    }
    for name, (has, asked) in wanted.items():
        if has != asked:
            raise RuntimeError(
                f"train.{name} means {asked} in torch, and the model or the optimizer made it "
                f"{has}. Leave such settings of the whole process to the matrix"
            )


def matmul_precision(train: TrainOptions) -> str:
    return "high" if train.matmul_precision == "tf32" else "highest"


def number_format(
    device: torch.device, train: TrainOptions, narrow_once: bool = True
) -> AbstractContextManager[object]:
    """The format of products and activations, for a forward pass.

    narrow_once: a weight is narrowed at its first use and kept until the block ends, which a CUDA
    graph that outlives the block must not read.
    """
    if train.dtype == "float32":
        return contextlib.nullcontext()
    dtype = getattr(torch, train.dtype)
    return torch.autocast(device.type, dtype=dtype, cache_enabled=narrow_once)
