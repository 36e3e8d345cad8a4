"""What a matrix claims, as pydantic forms: written before anything runs."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, WithJsonSchema

from bench.errors import nearest, shown
from bench.matrix.forms import Form, Name
from bench.records.columns import CLAIMABLE, COLUMNS, OF_CURVES, is_relative
from bench.records.kinds import LOSS


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
