"""How a cell trains, when it measures its losses, and what it may use."""

import math
from dataclasses import dataclass
from typing import Literal

from bench.border.checkpoints import EVERY
from bench.border.options.fields import Options, asked, option

TRAIN_SHARE = 0.9  # of a text, from its start, where a matrix says nothing else
# Done kernel by kernel before the first CUDA graph, as in PyTorch's notes on them: libraries are
# loaded, and an optimizer makes its state.
FIRST_STEPS = 3
SHARES = (TRAIN_SHARE, 0.1)  # the rest is the validation split


@dataclass(frozen=True)
class DataOptions(Options):
    """How a text is divided."""

    split: tuple[float, ...] = option(
        (),
        "shares of the text from its start, which sum to 1: training, validation and, if there "
        "are three, test, whose loss is taken once, after the last step; [0.9, 0.1] where not "
        "given",
    )

    @property
    def shares(self) -> tuple[float, ...]:
        return self.split or SHARES

    def bounds(self, n_chars: int) -> tuple[int, int]:
        """Where training and where validation ends; what is left of the text is for the test."""
        train, validation, *test = self.shares
        end = int((train + validation) * n_chars) if test else n_chars
        return int(train * n_chars), end


@dataclass(frozen=True)
class TrainOptions(Options):
    """How a model is trained."""

    steps: int = option(10_000, "training steps", ge=1, le=100_000_000)
    batch_size: int = option(16, "sequences a step", ge=1, le=1_000_000)
    accumulate: int = option(
        1,
        "parts of a step's batch that go through the model one after another, for batches that do "
        "not fit; the step is that of the whole batch, to rounding, but for what a class computes "
        "over a batch",
        ge=1,
        le=1_000_000,
    )
    block_size: int = option(32, "tokens a sequence, the longest context", ge=1, le=1_000_000)
    dtype: Literal["float32", "bfloat16"] = option(
        "float32",
        "number format of products and activations (torch.autocast); weights, their updates and "
        "losses are float32",
    )
    matmul_precision: Literal["float32", "tf32"] = option(
        "float32", "cuda: what products of float32 matrices compute in"
    )
    deterministic: bool = option(
        False, "only algorithms that give the same figures again; slower on cuda"
    )
    graph_steps: int = option(
        0,
        "cuda: training steps that are launched together as one CUDA graph, after the first "
        f"{FIRST_STEPS} steps; evaluations are graphs too; 0: kernel by kernel",
        ge=0,
        le=1_000,
    )
    compile: bool = option(
        False,
        "the training step's model through torch.compile, which needs a C++ compiler; with threads "
        "above 1, losses repeat to the last digit only if deterministic",
    )
    threads: int = option(1, "threads of one CPU operator", ge=1, le=4_096)
    step_timing: Literal["sampled", "every", "off"] = option(
        "sampled",
        "sampled: step times without waiting for the device between steps; every: wait for it "
        "after each step; off: only the whole training is timed",
    )
    schedule: Literal["constant", "cosine", "wsd"] = option(
        "constant",
        "every learning rate over the run: constant; cosine, down half a cosine; wsd, constant, "
        "then down a straight line (warm-up, stable, decay)",
    )
    warmup_steps: int = option(
        0,
        "first steps, in which every learning rate rises in a straight line",
        ge=0,
        le=100_000_000,
    )
    decay_steps: int = option(0, "wsd: last steps, in which the rates fall", ge=0, le=100_000_000)
    min_lr_share: float = option(
        0.0, "cosine, wsd: share of its rate that a decay falls to", ge=0, lt=1
    )
    clip_norm: float = option(
        0.0, "largest norm of all gradients together, which are scaled down to it; 0: none", ge=0
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"warmup_steps {self.warmup_steps} leaves nothing of steps {self.steps}: "
                f"give at most {self.steps - 1}"
            )
        if self.schedule == "wsd":
            self._check_decay()
        elif self.decay_steps:
            raise ValueError(
                f"decay_steps belongs to schedule wsd, and schedule is {self.schedule}: "
                "leave it out, or give schedule wsd"
            )
        if self.schedule == "constant" and self.min_lr_share:
            raise ValueError(
                "min_lr_share is where a decay ends, and schedule constant has none: "
                "leave it out, or give schedule cosine or wsd"
            )
        if self.graph_steps:
            self._check_graphs()
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"accumulate {self.accumulate} does not divide batch_size {self.batch_size}: "
                f"give a divisor of it, such as {math.gcd(self.accumulate, self.batch_size)}"
            )

    @property
    def for_cuda(self) -> list[str]:
        """Settings asked for that mean nothing on a CPU."""
        return [name for name in ("matmul_precision", "graph_steps") if name in asked(self)]

    def _check_graphs(self) -> None:
        most = self.steps - FIRST_STEPS
        if self.graph_steps > most:
            remedy = f"give at most {most}, or leave it out" if most > 0 else "leave it out"
            raise ValueError(
                f"graph_steps {self.graph_steps} would never be launched: the first {FIRST_STEPS} "
                f"of steps {self.steps} are done kernel by kernel, so {remedy}"
            )

    def _check_decay(self) -> None:
        most = self.steps - self.warmup_steps
        if not self.decay_steps:
            raise ValueError(
                "schedule wsd needs decay_steps, the length of its decay: "
                f"for instance {max(1, most // 5)}, a fifth of the steps after warm-up"
            )
        if self.decay_steps > most:
            raise ValueError(
                f"decay_steps {self.decay_steps} and warmup_steps {self.warmup_steps} are more "
                f"than steps {self.steps}: give decay_steps of at most {most}"
            )


@dataclass(frozen=True)
class EvalOptions(Options):
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
class Limits(Options):
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
    compile_cache: Literal["shared", "none"] = option(
        "shared",
        "train.compile: shared: a cell begins with what earlier cells of built-in classes had "
        "compiled; none: it compiles everything itself",
    )
    checkpoint_every: str | None = option(
        None,
        'how often the state of training is kept, as "500 steps" or "10 min" of wall time: a cell '
        "that was interrupted goes on from the last one; never where not given",
        pattern=EVERY.pattern,
    )
    keep_checkpoints: bool = option(False, "leave the last ones when the cell is ok")
