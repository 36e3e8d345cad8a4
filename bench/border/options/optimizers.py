"""The settings of the built-in optimizers."""

from dataclasses import dataclass
from typing import Literal

from bench.border.options.fields import Options, asked, option


@dataclass(frozen=True)
class AdamWOptions(Options):
    """torch.optim.AdamW on every parameter."""

    lr: float = option(1e-3, "learning rate", gt=0)
    beta1: float = option(0.9, "decay of the first moment", ge=0, lt=1)
    beta2: float = option(0.999, "decay of the second moment", ge=0, lt=1)
    eps: float = option(1e-8, "added to the denominator", gt=0)
    weight_decay: float = option(0.01, "decoupled weight decay", ge=0)


@dataclass(frozen=True)
class SGDOptions(Options):
    """torch.optim.SGD on every parameter."""

    lr: float = option(0.1, "learning rate", gt=0)
    momentum: float = option(0.9, "decay of the momentum; 0: none", ge=0, lt=1)
    nesterov: bool = option(False, "look one step of the momentum ahead")
    weight_decay: float = option(0.0, "added to the gradient, times the weight", ge=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum: give one above 0, or leave nesterov out")


COEFFICIENTS = (
    "of the iterations: jordan, one quintic in all of them; polar_express, in each the one that is "
    "best after those before it"
)


@dataclass(frozen=True)
class TrueMuonOptions(Options):
    """Orthogonalised momentum on the blocks' logical matrices, AdamW on everything else."""

    lr: float = option(1e-2, "learning rate of the logical matrices", gt=0)
    momentum: float = option(0.9, "decay of the momentum", ge=0, lt=1)
    weight_decay: float = option(0.01, "decoupled weight decay of the logical matrices", ge=0)
    ns_steps: int = option(5, "Newton-Schulz iterations", ge=1, le=100)
    adamw_lr: float = option(1e-3, "learning rate of AdamW on everything else", gt=0)
    adamw_weight_decay: float = option(0.01, "weight decay of AdamW on everything else", ge=0)
    momentum_form: Literal["original", "nesterov"] = option(
        "original",
        "what is orthogonalised, of momentum m and gradient g: original, momentum x m + g; "
        "nesterov, momentum x m + (1 - momentum) x g, as Muon has it",
    )
    update_scale: Literal["none", "sqrt_ratio", "match_rms"] = option(
        "none",
        "a matrix's own factor: sqrt_ratio, sqrt(max(1, rows / columns)); match_rms, "
        "0.2 x sqrt(max(rows, columns)), the size of AdamW's updates",
    )
    router: Literal["truemuon", "adamw"] = option(
        "truemuon", "which of the two a mixture's router has"
    )
    heads: Literal["apart", "together"] = option(
        "apart",
        "apart: each head's query, key and value is a matrix of its own; together: those of all "
        "heads are one each",
    )
    coefficients: Literal["jordan", "polar_express"] = option("jordan", COEFFICIENTS)


ADJUST_LR = (
    "a matrix's own rate: original, lr x sqrt(max(1, rows / columns)); match_rms_adamw, "
    "lr x 0.2 x sqrt(max(rows, columns)), the size of AdamW's updates"
)


@dataclass(frozen=True)
class MuonOptions(Options):
    """Muon, batched, on the blocks' hidden matrices, AdamW on everything else."""

    lr: float = option(1e-2, "learning rate of the hidden matrices", gt=0)
    momentum: float = option(0.95, "decay of the momentum", ge=0, lt=1)
    nesterov: bool = option(True, "look one step of the momentum ahead")
    weight_decay: float = option(0.01, "decoupled weight decay of the hidden matrices", ge=0)
    ns_steps: int = option(5, "Newton-Schulz iterations", ge=1, le=99)
    adjust_lr: Literal["original", "match_rms_adamw"] = option("original", ADJUST_LR)
    adamw_lr: float = option(1e-3, "learning rate of AdamW on everything else", gt=0)
    adamw_weight_decay: float = option(0.01, "weight decay of AdamW on everything else", ge=0)
    ns_dtype: Literal["bfloat16", "float32"] = option(
        "bfloat16", "number format of the iterations; torch.optim.Muon's is bfloat16"
    )
    coefficients: Literal["jordan", "polar_express"] = option("jordan", COEFFICIENTS)
    second_moment: Literal["none", "rows", "elements"] = option(
        "none",
        "average of the orthogonal update's squares whose root it is divided by, its norm staying: "
        "rows, one a row, as NorMuon; elements, one a number, as AdaMuon",
    )
    second_moment_decay: float = option(
        0.95, "rows, elements: decay of that average, beta2 of their authors", ge=0, lt=1
    )
    cautious_decay: bool = option(
        False, "decay only those weights that the update moves towards 0 as well"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.second_moment == "none" and "second_moment_decay" in asked(self):
            raise ValueError(
                f"second_moment_decay {self.second_moment_decay:g} belongs to second_moment rows "
                "or elements, and second_moment is none: leave it out, or give one of these"
            )


@dataclass(frozen=True)
class MuonClipOptions(MuonOptions):
    """Muon as Kimi K2 has it, with the logits of attention heads bounded by QK-clip."""

    nesterov: bool = option(False, "look one step of the momentum ahead")
    adjust_lr: Literal["original", "match_rms_adamw"] = option("match_rms_adamw", ADJUST_LR)
    tau: float = option(100.0, "largest attention logit that a head may have", gt=0)


OptimizerOptions = AdamWOptions | SGDOptions | TrueMuonOptions | MuonOptions

OPTIMIZER_OPTIONS: dict[str, type[OptimizerOptions]] = {
    "adamw": AdamWOptions,
    "sgd": SGDOptions,
    "truemuon": TrueMuonOptions,
    "muon": MuonOptions,
    "muonclip": MuonClipOptions,
}

# Names that a matrix may use as it may use a built-in's own: settings that have a name elsewhere.
OPTIMIZER_VARIANTS: dict[str, tuple[str, OptimizerOptions]] = {
    "muon-rms": ("muon", MuonOptions(adjust_lr="match_rms_adamw")),
}
