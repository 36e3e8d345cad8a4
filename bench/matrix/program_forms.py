"""The sections of a matrix of a program: the program itself, and values in place of settings."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from bench.matrix.claim_forms import Claim, FixedClaim, Terms
from bench.matrix.forms import CLOSED, Form, Image, Name, PathText, Setting, named
from bench.matrix.tune_forms import Tune

Text = Annotated[str, Field(min_length=1)]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]
Inside = Annotated[
    str,
    Field(
        pattern=r"^[^/\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        description="a path within the program's folder",
    ),
]
Patterns: Any = Annotated[
    list[Text],
    BeforeValidator(
        lambda value: [value] if isinstance(value, str) else value,
        json_schema_input_type=Text | list[Text],
    ),
]


class Metric(Form):
    """A figure that no column of runs.csv has."""

    better: Literal["lower", "higher"]


class ProgramForm(Form):
    """A training script, how it is called, and how its output is read."""

    path: PathText = Field(
        description="its folder, or its one file, relative to the matrix file; every run gets a "
        "fresh copy, in which it starts"
    )
    ignore: Patterns = Field(
        [],
        description="what is no part of it, as in .gitignore, beside what a .gitignore in it says",
    )
    command: list[Text] = Field(
        min_length=1,
        description="the program and its arguments, without a shell; python is that of the cell",
    )
    replace: dict[Inside, dict[Text, str]] = Field(
        {},
        description="file -> text that stands in it just once -> what is to stand there",
        json_schema_extra=CLOSED,
    )
    files: dict[Inside, str] = Field(
        {}, description="file that is written -> its content", json_schema_extra=CLOSED
    )
    environment: dict[Identifier, str] = Field(
        {}, description="variables beside the cell's own", json_schema_extra=CLOSED
    )
    data: dict[Name, PathText] = Field(
        {},
        description="name -> a file or folder that it finds, read-only, at data/NAME",
        json_schema_extra=CLOSED,
    )
    read: Patterns = Field(
        [], description="regular expressions whose named groups are figures of a line it prints"
    )
    trials: Text | None = Field(
        None, description="a regular expression for the line that begins another run of a process"
    )
    metrics: dict[Identifier, Metric] = Field(
        {},
        description="figures that no column of runs.csv has, and which of two is better",
        json_schema_extra=CLOSED,
    )
    seeds: Literal["paired", "replicates"] = Field(
        "paired",
        description="paired: {seed} decides a run; replicates: the program seeds itself, and a "
        "seed is a number of a run",
    )
    gpus: int = Field(1, ge=1, le=64, description="cuda: GPUs of a run")
    steps: int | None = Field(
        None, ge=1, le=1_000_000_000, description="the step at which it must have ended"
    )
    threads: int = Field(1, ge=1, le=1024, description="threads of one CPU operator")


class ProgramValues(Form):
    """What a name stands for: every key is a {placeholder}."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Setting]


class ProgramImage(Image):
    """The cells' image: one of yours, or ours with packages on top."""

    tag: Text | None = Field(None, description="an image with Python 3.11 or newer, by its tag")


class AnyTerms(Terms):
    """What is claimed of a metric that may be the program's."""

    metric: Name = Field(description="a column of runs.csv, or a metric of the program")


class AnyClaim(Claim):
    """A claim that may be about metrics of the program."""

    metric: Name = Field(description="a column of runs.csv, or a metric of the program")
    also: list[AnyTerms] = Field(default_factory=list)  # type: ignore[assignment]


class AnyFixedClaim(FixedClaim):
    """One that may be about a metric of the program."""

    metric: Name = Field(description="a column of runs.csv, or a metric of the program")


class AnyTune(Tune):
    """Tuning that may be by a metric of the program."""

    metric: Name = Field(  # type: ignore[assignment]
        "val_loss_final", description="its mean over the seeds tells which trial is best"
    )


NAMED_VALUES = named(ProgramValues)
