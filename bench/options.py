"""Everything that a matrix may set, with its default, range and meaning.

Plain dataclasses on purpose: the worker's side has no pydantic. The launching side turns them
into a schema (matrix.py), and the README's reference is held against them by a test.

A default is part of every old `run_id` (identity.py leaves defaults out), so a default must
never change: add a new option instead.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal

TRAIN_SHARE = 0.9  # of a text, from its start; the rest is the validation split


def option(default: Any, doc: str, **limits: Any) -> Any:
    """A dataclass field with its meaning and limits (`ge`, `gt`, `le`, as pydantic names them)."""
    return field(default=default, metadata={"doc": doc, "limits": limits})


@dataclass(frozen=True)
class NanoGPTOptions:
    """A dense decoder: pre-norm blocks of causal attention and a ReLU feed-forward."""

    n_embd: int = option(64, "width d of the residual stream", ge=1, le=65_536)
    n_layer: int = option(4, "number of blocks", ge=1, le=1_024)
    n_head: int = option(4, "attention heads; must divide n_embd", ge=1, le=1_024)
    attention_scale: Literal["n_embd", "head_size"] = option(
        "n_embd",
        "scores are multiplied by this size to the power -1/2; the original uses n_embd, "
        "the literature head_size",
    )

    def __post_init__(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd {self.n_embd} is not a multiple of n_head {self.n_head}")


@dataclass(frozen=True)
class NanoKimiOptions(NanoGPTOptions):
    """NanoGPT with a mixture of SwiGLU experts, all of them weighted by a softmax gate."""

    n_experts: int = option(4, "experts a block; every token visits all of them", ge=1, le=4_096)


@dataclass(frozen=True)
class AdamWOptions:
    """torch.optim.AdamW on every parameter."""

    lr: float = option(1e-3, "learning rate", gt=0)
    beta1: float = option(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = option(0.999, "decay of the second moment", ge=0, lt=1)
    eps: float = option(1e-8, "added to the denominator", gt=0)
    weight_decay: float = option(0.01, "decoupled weight decay", ge=0)


@dataclass(frozen=True)
class TrueMuonOptions:
    """Orthogonalised momentum on the blocks' logical matrices, AdamW on everything else."""

    lr: float = option(1e-2, "learning rate of the logical matrices", gt=0)
    momentum: float = option(0.9, "decay of the momentum", ge=0, lt=1)
    weight_decay: float = option(0.01, "decoupled weight decay of the logical matrices", ge=0)
    ns_steps: int = option(5, "Newton-Schulz iterations", ge=1, le=100)
    adamw_lr: float = option(1e-3, "learning rate of AdamW on everything else", gt=0)
    adamw_weight_decay: float = option(0.01, "weight decay of AdamW on everything else", ge=0)


@dataclass(frozen=True)
class TrainOptions:
    """How a model is trained."""

    steps: int = option(10_000, "training steps", ge=1, le=100_000_000)
    batch_size: int = option(16, "sequences a step", ge=1, le=1_000_000)
    block_size: int = option(32, "tokens a sequence, the longest context", ge=1, le=1_000_000)
    dtype: Literal["float32"] = option("float32", "number format of weights and activations")
    threads: int = option(1, "threads of one CPU operator", ge=1, le=4_096)
    step_timing: Literal["sampled", "every", "off"] = option(
        "sampled",
        "sampled: step times without waiting for the device between steps; every: wait for it "
        "after each step; off: only the whole training is timed",
    )


@dataclass(frozen=True)
class EvalOptions:
    """When losses are measured, and on what."""

    every: int = option(100, "steps between evaluations; also at step 0 and after the last", ge=1)
    protocol: Literal["full", "sampled"] = option(
        "full",
        "full: the whole validation split in non-overlapping windows; "
        "sampled: the original's mean over random batches",
    )
    train_windows: int = option(
        500, "full: evenly spaced windows of the training split", ge=1, le=100_000_000
    )
    batches: int = option(200, "sampled: random batches of each split", ge=1, le=1_000_000)


@dataclass(frozen=True)
class Limits:
    """What one cell may use. Not part of its identity."""

    timeout_s: float = option(
        3_600.0, "wall time after which the cell is stopped", gt=0, le=2_000_000
    )
    memory_gib: float = option(
        4.0, "memory of the cell's container; not enforced in the local runtime", ge=0.01, le=1e6
    )
    cpus: int | None = option(None, "CPUs of the cell; train.threads where not given", ge=1)
    heartbeat_s: float = option(
        600.0, "a worker that says nothing for so long hangs, and is stopped", gt=0, le=2_000_000
    )
    retries: int = option(
        0, "further attempts after a fault of the machine; never after any other", ge=0, le=10
    )


MODEL_OPTIONS: dict[str, type[NanoGPTOptions]] = {
    "nanogpt": NanoGPTOptions,
    "nanokimi": NanoKimiOptions,
}
OPTIMIZER_OPTIONS: dict[str, type[AdamWOptions] | type[TrueMuonOptions]] = {
    "adamw": AdamWOptions,
    "truemuon": TrueMuonOptions,
}


def asked(options: Any) -> dict[str, Any]:
    """The settings that differ from their defaults: what somebody asked for."""
    return {
        entry.name: getattr(options, entry.name)
        for entry in fields(options)
        if getattr(options, entry.name) != entry.default
    }
