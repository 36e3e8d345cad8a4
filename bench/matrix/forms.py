"""What a matrix file may hold, as pydantic forms: types, limits, defaults, JSON Schema.

The settings themselves are the dataclasses of bench/border/options, which the worker reads as well;
here they become forms, so that each is written down once.
"""

import dataclasses
import os
from typing import Annotated, Any, Literal

# Its plugins are none of ours, and looking for them takes longer than reading a matrix.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, create_model

from bench.border.options import (
    MODEL_OPTIONS,
    OPTIMIZER_OPTIONS,
    OWN,
    DataOptions,
    EvalOptions,
    Limits,
    TrainOptions,
)
from bench.border.options.own import GroupName, LeafKind
from bench.matrix.explain import why_no_setting

AXES = ("model", "optimizer", "device", "seed")
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
Device = Literal["cpu", "cuda"]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def section(name: str, options: type, **first: Any) -> type[Section]:
    """The pydantic form of one dataclass of options: same fields, defaults and limits."""
    entries: dict[str, Any] = dict(first)
    for entry in dataclasses.fields(options):
        about = Field(description=entry.metadata["doc"], **entry.metadata["limits"])
        entries[entry.name] = (Annotated[entry.type, about], entry.default)
    return create_model(name, __base__=Section, __doc__=options.__doc__, **entries)


def _setting(value: Any) -> Any:
    """An argument of somebody's class: a plain value, or a list of them."""
    if why := why_no_setting(value):
        raise ValueError(why)
    return value


Setting = Annotated[Any, AfterValidator(_setting)]
Reference = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z_][A-Za-z0-9_]*\.)*[A-Za-z_][A-Za-z0-9_]*[.:][A-Za-z_][A-Za-z0-9_]*$",
        description="package.module:Name, of what is at `path` or installed where cells run",
    ),
]


class OwnModelForm(Section):
    """A class that lives elsewhere; what is not below is an argument of it."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    reference: Reference = Field(alias="class")
    path: str | None = Field(
        None, min_length=1, description="its package's folder, or a .py file, beside the matrix"
    )


class OwnGroup(Section):
    """What one role's parameters get; without `class`, settings over those of the variant."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]

    reference: Reference | None = Field(None, alias="class")
    leaves: LeafKind = Field("parameters", description="as that of the variant")


OwnGroup.model_rebuild()


def _kind(value: Any) -> str | None:
    """Which form a variant has: that of its `base`, or of a class."""
    if not isinstance(value, dict):
        return None
    base = OWN if OWN in value else value.get("base")
    return base if isinstance(base, str) else None


def _group_kind(value: Any) -> str | None:
    return _kind(value) or OWN


def variants(kinds: dict[str, Any], own: type[Section], kind: Any = _kind) -> Any:
    """Variants by their names: `base` or `class` says which settings there are."""
    union: Any = Annotated[own, Tag(OWN)]
    for base, options in kinds.items():
        form = section(f"{base}_variant", options, base=(Literal[base], ...))
        union |= Annotated[form, Tag(base)]
    return Annotated[union, Discriminator(kind)]


def _named(form: Any) -> Any:
    return dict[Name, form]


GROUP = variants(OPTIMIZER_OPTIONS, OwnGroup, _group_kind)


class OwnOptimizerForm(OwnModelForm):
    """An optimizer's class, and which parameters it gets."""

    groups: dict[GroupName, GROUP] = Field(  # type: ignore[valid-type]
        {}, description="what each role's parameters get; `other`: every role that is not named"
    )
    leaves: LeafKind = Field(
        "parameters",
        description="parameters: as the model has them; matrices: one leaf a logical matrix",
    )


class Data(Section):
    corpus: str | None = Field(
        None,
        min_length=1,
        description="a path, or a built-in corpus: tinyshakespeare, pydoc. "
        "Default: input.txt where you are, else pydoc",
    )
    split: list[Annotated[float, Field(gt=0, lt=1)]] | None = Field(
        None,
        min_length=2,
        max_length=3,
        description=dataclasses.fields(DataOptions)[0].metadata["doc"],
    )


class Image(Section):
    """What the image of the cells has beside torch and numpy."""

    requirements: list[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*$")]
    ] = Field([], description="packages by pip, each as name==version")


class Axes(Section):
    """Every combination of these is a cell."""

    model: list[Name] = Field(min_length=1)
    optimizer: list[Name] = Field(min_length=1)
    device: list[Device] = Field(min_length=1)
    seed: list[Seed] = Field(min_length=1)


class Exclude(Section):
    """Cells that match all the keys given are left out."""

    model: Name | None = None
    optimizer: Name | None = None
    device: Device | None = None
    seed: Seed | None = None


class Include(Section):
    """One complete extra cell, added after the excludes."""

    model: Name
    optimizer: Name
    device: Device
    seed: Seed


class Baseline(Section):
    model: Name
    optimizer: Name


class Claim(Section):
    """What the report is to decide, written before the run."""

    baseline: Baseline
    metric: Literal[
        "val_loss_final", "test_loss_final", "val_loss_best", "perplexity", "train_time_s"
    ] = Field(description="the column of runs.csv that is compared")
    margin: float = Field(gt=0, description="differences below this do not matter")
    target: float | None = Field(
        None,
        gt=0,
        description="validation loss to reach: the report says how long each arm takes. Default: "
        "what the worst seed of the worst arm ends with",
    )


class Log(Section):
    """A range whose logarithm is even: a learning rate's."""

    log: list[Annotated[float, Field(gt=0)]] = Field(min_length=2, max_length=2)


class Linear(Section):
    """An even range."""

    linear: list[float] = Field(min_length=2, max_length=2)


def _kind_of_values(values: Any) -> str | None:
    if isinstance(values, list):
        return "list"
    kinds = [kind for kind in ("log", "linear") if isinstance(values, dict) and kind in values]
    if isinstance(values, Log | Linear):
        return "log" if isinstance(values, Log) else "linear"
    return kinds[0] if kinds else None


Values = Log | Linear | list[Any]
Space = dict[str, Values]
_Values = Annotated[
    Annotated[Log, Tag("log")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[list[Any], Tag("list"), Field(min_length=1)],
    Discriminator(_kind_of_values),
]


class Tune(Section):
    """The same number of trials for every arm; the best setting runs on the matrix's seeds."""

    trials: int = Field(
        ge=2, le=10_000, description="settings that each arm tries, its untuned one included"
    )
    seeds: list[Seed] = Field(min_length=1, description="of the trials: never the matrix's own")
    space: dict[str, _Values] = Field(
        min_length=1,
        max_length=8,
        description="what is tried of each option of that name, whichever optimizers have it: a "
        "list of values, {log: [low, high]} or {linear: [low, high]}",
    )
    sampler: Literal["quasi-random", "grid"] = Field(
        "quasi-random", description="quasi-random: Halton's sequence; grid: every combination"
    )
    metric: Literal["val_loss_final", "val_loss_best"] = Field(
        "val_loss_final", description="its mean over the seeds tells which trial is best"
    )


TrainForm, EvalForm = section("Train", TrainOptions), section("Eval", EvalOptions)
LimitsForm = section("Limits", Limits)

# The whole file; `bench schema` prints it as JSON Schema.
MatrixFile = create_model(
    "MatrixFile",
    __base__=Section,
    name=(Name, Field(description="results/<name>/ unless --out")),
    data=(Data, Data(corpus=None, split=None)),
    image=(Image, Image(requirements=[])),
    train=(TrainForm, TrainForm()),
    eval=(EvalForm, EvalForm()),
    matrix=(Axes, ...),
    exclude=(list[Exclude], []),
    include=(list[Include], []),
    models=(_named(variants(MODEL_OPTIONS, OwnModelForm)), {}),
    optimizers=(_named(variants(OPTIMIZER_OPTIONS, OwnOptimizerForm)), {}),
    limits=(LimitsForm, LimitsForm()),
    claim=(Claim | None, None),
    tune=(Tune | None, None),
)

SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "image": Image,
    "train": TrainForm,
    "eval": EvalForm,
    "matrix": Axes,
    "exclude": Exclude,
    "include": Include,
    "limits": LimitsForm,
    "claim": Claim,
    "tune": Tune,
}


def allowed_keys(loc: tuple[str | int, ...]) -> list[str]:
    """The keys that are valid beside the last one of pydantic's location `loc`."""
    match loc[:-1]:
        case ():
            form: type[Section] = MatrixFile
        case ("models" | "optimizers", _, *_, str(base)) if base == OWN:
            return []
        case ("models", _, str(base)):
            return ["base", *(entry.name for entry in dataclasses.fields(MODEL_OPTIONS[base]))]
        case ("optimizers", _, str(base)) | ("optimizers", _, _, "groups", _, str(base)):
            return ["base", *(entry.name for entry in dataclasses.fields(OPTIMIZER_OPTIONS[base]))]
        case ("claim", "baseline"):
            form = Baseline
        case ("tune", "space", _, str(kind)):
            return [kind]
        case (str(key), *_):
            form = SECTIONS.get(key, Section)
        case _:
            return []
    return list(form.model_fields)


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a matrix file, for editors."""
    schema: dict[str, Any] = MatrixFile.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "matrix"}
