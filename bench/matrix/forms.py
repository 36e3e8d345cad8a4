"""The sections of a matrix file, as pydantic forms: types, limits, defaults, JSON Schema.

The settings themselves are the dataclasses of bench/border/options, which the worker reads as well;
here they become forms, so that each is written down once.
"""

import dataclasses
import os
from typing import Annotated, Any, Literal

# Its plugins are none of ours, and looking for them takes longer than reading a matrix.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    create_model,
)
from pydantic.config import JsonDict

from bench.border.options import (
    OPTIMIZER_OPTIONS,
    OWN,
    SHARES,
    DataOptions,
    EvalOptions,
    Limits,
    TrainOptions,
)
from bench.border.options.own import GroupName, LeafKind, Want
from bench.records.shards import MOST_TOKENS
from bench.records.tokenfiles import TokensAsked

AXES = ("model", "optimizer", "device", "seed")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Device = Literal["cpu", "cuda"]
# It goes into messages as it is: there, it must not command a terminal.
PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]


class Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def form_of(name: str, options: type, **first: Any) -> type[Form]:
    """The pydantic form of one dataclass of options: same fields, defaults and limits."""
    entries: dict[str, Any] = dict(first)
    for entry in dataclasses.fields(options):
        entries[entry.name] = (type_of(entry), entry.default)
    return create_model(name, __base__=Form, __doc__=options.__doc__, **entries)


def type_of(option: "dataclasses.Field[Any]") -> Any:
    """An option's type as a form has it: with its meaning and its limits."""
    about = Field(description=option.metadata["doc"], **option.metadata["limits"])
    return Annotated[option.type, about]


# Of a class of your own: arguments.py says which values can be one.
PLAIN_TYPES: JsonDict = {"type": ["string", "number", "boolean", "null", "array"]}
Setting = Annotated[Any, Field(json_schema_extra=PLAIN_TYPES)]
Reference = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*[.:][A-Za-z_][A-Za-z0-9_]*$",
        description="package.module:Name, of what is at `path` or installed where cells run",
    ),
]


# `base` is no argument: with it, a form would be that of a built-in as well.
NO_BASE: JsonDict = {"not": {"required": ["base"]}}


class OwnModelForm(Form):
    """A class of your own; every key that is not below is an argument of it."""

    model_config = ConfigDict(extra="allow", json_schema_extra=NO_BASE)
    __pydantic_extra__: dict[str, Setting]

    reference: Reference = Field(alias="class")
    path: PathText | None = Field(
        None, description="its package's folder, or a .py file, relative to the matrix file"
    )


Wants: Any = Annotated[
    list[Want],
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Want | list[Want],
    ),
    AfterValidator(lambda values: tuple(sorted(set(values)))),  # their order means nothing
    Field(
        description="what its class wants beyond the rule: model, the module in place of its "
        "parameters; named_parameters, (name, parameter) pairs; closure, one at each step though "
        "it may do without",
    ),
]


class OwnGroup(Form):
    """What one role's parameters get; without `class`, settings over those of the variant."""

    model_config = ConfigDict(extra="allow", json_schema_extra=NO_BASE)
    __pydantic_extra__: dict[str, Setting]

    reference: Reference | None = Field(None, alias="class")
    leaves: LeafKind = Field("parameters", description="as that of the variant")
    wants: Wants = ()


OwnGroup.model_rebuild()


def _kind(value: Any) -> str | None:
    """Which form a variant has: that of its `base`, or of a class."""
    if not isinstance(value, dict):
        return None
    base = OWN if OWN in value else value.get("base")
    return base if isinstance(base, str) else None


def variants(kinds: dict[str, Any], own: type[Form], kind: Any = _kind) -> Any:
    """Variants by their names: `base` or `class` says which settings there are."""
    union: Any = Annotated[own, Tag(OWN)]
    for base, options in kinds.items():
        form = form_of(f"{base}_variant", options, base=(Literal[base], ...))
        union |= Annotated[form, Tag(base)]
    return Annotated[union, Discriminator(kind)]


CLOSED: JsonDict = {"additionalProperties": False}  # where names are the patternProperties


def named(form: Any) -> Any:
    return Annotated[dict[Name, form], Field(json_schema_extra=CLOSED)]


GROUP = variants(OPTIMIZER_OPTIONS, OwnGroup, lambda value: _kind(value) or OWN)


class OwnOptimizerForm(OwnModelForm):
    """An optimizer's class, and which parameters it gets."""

    groups: dict[GroupName, GROUP] = Field(  # type: ignore[valid-type]
        {}, description="what each role's parameters get; `other`: every role that is not named"
    )
    leaves: LeafKind = Field(
        "parameters",
        description="parameters: as the model has them; matrices: one leaf a logical matrix",
    )
    wants: Wants = ()


Paths = Annotated[list[PathText], Field(min_length=1)]


class TokensForm(Form):
    """Files of token ids, by split: paths, relative to the matrix file, or patterns of them."""

    train: Paths
    val: Paths
    test: Paths | None = Field(None, description="its loss is taken once, after the last step")


class Data(Form):
    corpus: PathText | None = Field(
        None,
        description="a path, relative to the matrix file, or a built-in corpus: tinyshakespeare, "
        "pydoc. Default: input.txt in the current folder, else pydoc",
    )
    split: list[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        None,
        min_length=2,
        max_length=3,
        description=dataclasses.fields(DataOptions)[0].metadata["doc"],
    )
    tokens: TokensForm | None = Field(
        None,
        description="files of token ids in place of a text: shards of llm.c, .bin of uint16, .npy",
    )
    vocab_size: int | None = Field(
        None,
        ge=2,
        le=MOST_TOKENS,
        description="tokens: how many ids there are; all in the files are smaller; needed unless "
        "the tokens.json of `tokenise` lies beside the files",
    )

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return len(self.split or ()) > 2 or bool(self.tokens and self.tokens.test)

    @property
    def tokens_asked(self) -> TokensAsked | None:
        """None: a text."""
        if self.tokens is None:
            return None
        splits = self.tokens.model_dump(exclude_none=True)
        return TokensAsked(splits, self.vocab_size)

    @property
    def options(self) -> DataOptions:
        """What a cell is asked of it: the usual shares, written out, are the default as well."""
        shares = tuple(self.split or ())
        return DataOptions() if shares == SHARES else DataOptions(shares)


class Image(Form):
    """What the image of the cells has beside torch and numpy."""

    requirements: list[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*$")]
    ] = Field([], description="packages by pip, each as name==version")


class Axes(Form):
    """Every combination of these is a cell."""

    model: list[Name] = Field(min_length=1)
    optimizer: list[Name] = Field(min_length=1)
    device: list[Device] = Field(min_length=1)
    seed: list[Seed] = Field(min_length=1)


class Exclude(Form):
    """Cells that match all the keys given are left out."""

    model: Name | None = None
    optimizer: Name | None = None
    device: Device | None = None
    seed: Seed | None = None


class Include(Form):
    """One complete extra cell, added after the excludes."""

    model: Name
    optimizer: Name
    device: Device
    seed: Seed


TrainForm, EvalForm = form_of("Train", TrainOptions), form_of("Eval", EvalOptions)
LimitsForm = form_of("Limits", Limits)
