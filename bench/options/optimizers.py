"""The settings of the built-in optimizers."""

from dataclasses import dataclass

from bench.options.fields import option


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


OPTIMIZER_OPTIONS: dict[str, type[AdamWOptions] | type[TrueMuonOptions]] = {
    "adamw": AdamWOptions,
    "truemuon": TrueMuonOptions,
}
