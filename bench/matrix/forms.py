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
    ValidationInfo,
    WithJsonSchema,
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
from bench.errors import nearest, shown
from bench.records.columns import CLAIMABLE, COLUMNS, OF_CURVES, is_relative
from bench.records.kinds import LOSS
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


class Baseline(Form):
    model: Name
    optimizer: Name


def _figure(name: str) -> str:
    if name not in CLAIMABLE:
        raise ValueError(f"{shown(name)} is not allowed. {nearest(name, CLAIMABLE)}")
    return name


def _share(margin: float, info: ValidationInfo) -> float:
    """Of what is compared by its ratio."""
    metric = str(info.data.get("metric"))  # what a program declares is no column
    column = (COLUMNS | OF_CURVES).get(metric)
    if column is not None and is_relative(metric, column) and margin >= 1:
        what = f"{margin:g} is no share, and {metric} is compared by its ratio. "
        raise ValueError(f"{what}Write less than 1: 0.05 is 5 %.")
    return margin


class Terms(Form):
    """A figure that is claimed, and all that says what it is."""

    metric: Annotated[
        str, AfterValidator(_figure), WithJsonSchema({"type": "string", "enum": [*CLAIMABLE]})
    ] = Field(description="what is compared: a column of runs.csv, or a figure of curves")
    margin: Annotated[float, AfterValidator(_share)] = Field(
        gt=0,
        description="differences below this do not matter: in the metric's unit for losses, "
        "percentages and degrees; for all other columns a share of the baseline's (0.05: 5 %)",
    )
    target: float | None = Field(
        None,
        gt=0,
        description="validation loss to reach: the report says how long each arm takes. Default: "
        "the highest final loss of the arm whose mean is highest. A metric ..._to_target needs it",
    )
    tail: int | None = Field(
        None,
        ge=2,
        le=1_000_000,
        description="val_loss_tail: the last evaluations that are averaged",
    )
    budget: float | None = Field(
        None,
        gt=0,
        description="val_loss_at_equal_...: seconds of training, tokens or operations at which "
        "losses are compared. Default: where the first finished run of any arm ends",
    )


class Claim(Terms):
    """What the report is to decide, written before the run."""

    baseline: Baseline
    variance: Literal["own", "pooled"] = Field(
        "own",
        description="own: each comparison by the deviation of its own pairs, from 5 seeds on; "
        "pooled: by one deviation of all configurations, whose noise is alike, from 3 seeds on",
    )
    also: list[Terms] = Field(
        default_factory=list,
        description="further claims of the same configurations: all are tested together",
    )

    @property
    def each(self) -> tuple[Terms, ...]:
        """All that is claimed, itself first."""
        return (self, *self.also)

    @property
    def metrics(self) -> list[str]:
        return [terms.metric for terms in self.each]


def _less_is_better(name: str) -> str:
    column = COLUMNS.get(_figure(name))
    if column is None or column.kind != LOSS or column.more_is_better:
        raise ValueError(f"{name} cannot be at most so much. Claim a loss, such as val_loss_final.")
    return name


class FixedClaim(Form):
    """That the mean of one configuration is at most so much, written before the run."""

    arm: Baseline
    metric: Annotated[str, AfterValidator(_less_is_better)] = Field(
        description="a loss, or what is computed from one: a column of runs.csv"
    )
    at_most: float = Field(description="what the mean is to be shown to lie under")
    sd: float | None = Field(
        None,
        gt=0,
        description="the standard deviation of a run, where it is known from elsewhere: the test "
        "by it is told as well",
    )

    @property
    def metrics(self) -> list[str]:
        return [self.metric]


class Log(Form):
    """A range whose logarithm is even: a learning rate's."""

    log: list[Annotated[float, Field(gt=0)]] = Field(min_length=2, max_length=2)

    @property
    def ends(self) -> list[float]:
        return self.log


class Linear(Form):
    """An even range."""

    linear: list[float] = Field(min_length=2, max_length=2)

    @property
    def ends(self) -> list[float]:
        return self.linear


def _kind_of_values(values: Any) -> str | None:
    if isinstance(values, list):
        return "list"
    kinds = [kind for kind in ("log", "linear") if isinstance(values, dict) and kind in values]
    if isinstance(values, Log | Linear):
        return "log" if isinstance(values, Log) else "linear"
    return kinds[0] if kinds else None


Values = Log | Linear | list[Setting]
Space = dict[str, Values]
_Values = Annotated[
    Annotated[Log, Tag("log")]
    | Annotated[Linear, Tag("linear")]
    | Annotated[list[Setting], Tag("list"), Field(min_length=1)],
    Discriminator(_kind_of_values),
]


class PerSetting(Form):
    """A budget by the size of what is searched: an arm of two rates tries twice as many."""

    per_setting: int = Field(ge=2, le=1_000)


class Tune(Form):
    """The same budget for every arm; the best setting runs on the matrix's seeds."""

    trials: Annotated[
        Annotated[int, Tag("number"), Field(ge=2, le=10_000)]
        | Annotated[PerSetting, Tag("per_setting")],
        Discriminator(
            lambda given: "per_setting" if isinstance(given, dict | PerSetting) else "number"
        ),
    ] = Field(
        description="settings that each arm tries, its untuned one included: a number for all, or "
        "{per_setting: so many} for each option that the space has for the arm"
    )
    refine: int = Field(
        0,
        ge=0,
        le=10_000,
        description="further trials of each arm, once those have ended: around the best of them, "
        "in a quarter of each range",
    )
    studies: int = Field(
        1,
        ge=1,
        le=1_000,
        description="how often all of it is done, with other points and seeds: the trials' and the "
        "matrix's seeds are shared out in their order; verdicts need 5",
    )
    seeds: list[Seed] = Field(min_length=1, description="of the trials: never the matrix's own")
    space: dict[str, _Values] = Field(
        min_length=1,
        max_length=8,
        description="what is tried of each option of that name, whichever optimizers have it, or "
        "of train's schedule, warmup_steps, decay_steps, min_lr_share and clip_norm: a list of "
        "values, {log: [low, high]} or {linear: [low, high]}",
    )
    sampler: Literal["quasi-random", "grid"] = Field(
        "quasi-random", description="quasi-random: Halton's sequence; grid: every combination"
    )
    metric: Literal["val_loss_final", "val_loss_best"] = Field(
        "val_loss_final", description="its mean over the seeds tells which trial is best"
    )

    def first_trials(self, settings: int) -> int:
        """How many settings an arm tries first, of which the space names so many options."""
        if isinstance(self.trials, PerSetting):
            return self.trials.per_setting * settings
        return self.trials


TrainForm, EvalForm = form_of("Train", TrainOptions), form_of("Eval", EvalOptions)
LimitsForm = form_of("Limits", Limits)
