"""A model or an optimizer that lives outside this repository, as a cell is asked for it."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

OWN = "class"  # stands where a built-in's name would: the base of such a variant

# What a logical tensor is for (bench/border/logical.py); a group of an optimizer is of one or more.
Role = Literal["hidden", "embedding", "head", "vector", "router"]
ROLES = get_args(Role)
OTHER = "other"  # the group of every role that has none of its own
GroupName = Literal[Role, "other"]

LeafKind = Literal["parameters", "matrices"]

# What an optimizer's class wants that others do not: to be made of the model itself or of
# (name, parameter) pairs, in place of the parameters; to be given a closure at each step.
Want = Literal["model", "named_parameters", "closure"]


@dataclass(frozen=True)
class OwnModel:
    """A builder, called with the vocabulary's size, the block's and these settings."""

    reference: str  # package.module:name
    # Its arguments: plain values and lists of them, as in the matrix.
    settings: dict[str, Any] = field(hash=False)
    # Of the code at `path`, wherever that lies; empty: it is installed where the cell runs.
    code_sha256: str = ""


@dataclass(frozen=True)
class OwnOptimizer(OwnModel):
    """A class of `torch.optim.Optimizer`, and what it gets of a model."""

    # Role or `other` -> {"settings": ...} over those above, for parameter groups of the class;
    # with "class" or "base" an optimizer apart, with settings ("leaves", "wants") of its own.
    # Empty: the class gets everything.
    groups: dict[str, dict[str, Any]] = field(default_factory=dict, hash=False)
    leaves: LeafKind = "parameters"  # or "matrices": one leaf a logical matrix
    wants: tuple[Want, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "wants", tuple(self.wants))  # JSON has lists only
