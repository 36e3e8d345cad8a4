"""Everything that a matrix may set, with its default, range and meaning.

Plain dataclasses on purpose: the worker's side has no pydantic. The launching side turns them
into a schema (forms.py), and the README's reference is held against them by a test.

A default is part of every old `run_id` (identity.py leaves defaults out), so a default must
never change: add a new option instead.
"""

from bench.border.options.fields import asked
from bench.border.options.models import (
    MODEL_OPTIONS,
    DecoderOptions,
    NanoGPTOptions,
    NanoKimiOptions,
)
from bench.border.options.optimizers import (
    OPTIMIZER_OPTIONS,
    OPTIMIZER_VARIANTS,
    AdamWOptions,
    MuonClipOptions,
    MuonOptions,
    OptimizerOptions,
    SGDOptions,
    TrueMuonOptions,
)
from bench.border.options.own import OWN, OwnModel, OwnOptimizer
from bench.border.options.training import (
    FIRST_STEPS,
    SHARES,
    TRAIN_SHARE,
    DataOptions,
    EvalOptions,
    Limits,
    TrainOptions,
)

__all__ = [
    "FIRST_STEPS",
    "MODEL_OPTIONS",
    "OPTIMIZER_OPTIONS",
    "OPTIMIZER_VARIANTS",
    "OWN",
    "SHARES",
    "TRAIN_SHARE",
    "AdamWOptions",
    "DataOptions",
    "DecoderOptions",
    "EvalOptions",
    "Limits",
    "MuonClipOptions",
    "MuonOptions",
    "NanoGPTOptions",
    "NanoKimiOptions",
    "OptimizerOptions",
    "OwnModel",
    "OwnOptimizer",
    "SGDOptions",
    "TrainOptions",
    "TrueMuonOptions",
    "asked",
]
