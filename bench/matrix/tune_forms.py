"""How a matrix tunes, as pydantic forms: budget, studies and what is searched."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from bench.matrix.forms import Form, Seed, Setting


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
