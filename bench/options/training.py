"""How a cell trains, when it measures its losses, and what it may use."""

from dataclasses import dataclass
from typing import Literal

from bench.options.fields import option

TRAIN_SHARE = 0.9  # of a text, from its start, where a matrix says nothing else
SHARES = (TRAIN_SHARE, 0.1)  # the rest is the validation split


@dataclass(frozen=True)
class DataOptions:
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
