"""A training script as a cell: what the matrix asks of it, with {placeholders} and their values.

Standard library alone: it is read in an image that somebody else made, too.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from bench.border.identity import digest

BASE = "program"  # of its models and optimizers, which are values and nothing more

# {{name}} stands for {name} itself; all other braces are text.
PLACEHOLDER = re.compile(r"\{\{([A-Za-z_][A-Za-z0-9_]*)\}\}|\{([A-Za-z_][A-Za-z0-9_]*)\}")

# Known only where and when a cell runs; of the others an arm's identity has the values.
LATE = ("seed", "out")
BUILT_IN = (*LATE, "device", "model", "optimizer", "steps", "threads", "gpus")


@dataclass(frozen=True)
class GivenValues:
    """What a model's or an optimizer's name stands for in the placeholders of a program."""

    settings: dict[str, Any] = field(default_factory=dict, hash=False)
    called: str = ""  # what {model} or {optimizer} stands for in a trial of it; else its name


@dataclass(frozen=True)
class Program:
    """A program and how it is called and read; texts hold placeholders until `filled`."""

    name: str  # of its folder or file
    code_sha256: str
    command: tuple[str, ...]
    replace: dict[str, dict[str, str]] = field(default_factory=dict, hash=False)  # by file
    files: dict[str, str] = field(default_factory=dict, hash=False)  # path -> content
    environment: dict[str, str] = field(default_factory=dict, hash=False)
    data: dict[str, str] = field(default_factory=dict, hash=False)  # name -> SHA-256
    read: tuple[str, ...] = ()  # regular expressions with named groups
    trials: str = ""  # a regular expression: each match begins another run; empty: one run
    metrics: dict[str, str] = field(default_factory=dict, hash=False)  # -> which is better
    seeds: Literal["paired", "replicates"] = "paired"
    gpus: int = 1
    steps: int | None = None
    threads: int = 1

    @property
    def texts(self) -> list[str]:
        """Everything in which placeholders may stand."""
        replacements = [text for pairs in self.replace.values() for text in pairs.values()]
        return [*self.command, *self.environment.values(), *self.files.values(), *replacements]

    @property
    def used(self) -> set[str]:
        """The placeholders that stand in it."""
        return {name for text in self.texts for name in placeholders(text)}

    @property
    def asked(self) -> dict[str, Any]:
        """What of it decides a run; what is as by default is left out, and so is its name."""
        of_default, own = asdict(Program("", "", ())), asdict(self)
        return {key: own[key] for key in own if key != "name" and own[key] != of_default[key]}

    @property
    def shared(self) -> dict[str, Any]:
        """What all runs of a matrix have in common, in short: of the column `settings`."""
        told = ("metrics", "seeds", "gpus", "steps", "threads")
        short = {key: value for key, value in self.asked.items() if key in told}
        return {
            "name": self.name,
            "sha256": digest(self.asked),
            "command": list(self.command),
            **short,
        }

    def filled(self, values: Mapping[str, Any]) -> "Program":
        """With these values in place of their names; names that are not among them stay."""

        def fill_all(texts: Mapping[str, str]) -> dict[str, str]:
            return {key: fill(text, values) for key, text in texts.items()}

        return replace(
            self,
            command=tuple(fill(text, values) for text in self.command),
            replace={file: fill_all(pairs) for file, pairs in self.replace.items()},
            files=fill_all(self.files),
            environment=fill_all(self.environment),
        )


def values_of(
    program: Program, model: str, optimizer: str, device: str, *settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What placeholders stand for in an arm: all but LATE. `settings`: of model and optimizer."""
    values = {key: value for each in settings for key, value in each.items()}
    values |= {"model": model, "optimizer": optimizer, "device": device}
    return {**values, "steps": program.steps, "threads": program.threads, "gpus": program.gpus}


def read_spec(spec: Mapping[str, Any], out: str) -> Program:
    """The program of a cell's spec.json, filled. `out`: the folder that {out} stands for."""
    content = spec["program"]
    lists = {key: tuple(content[key]) for key in ("command", "read")}
    program = Program(**{**content, **lists})
    model, optimizer = spec["model"], spec["optimizer"]
    settings = (each["options"]["settings"] for each in (model, optimizer))
    names = (each["options"]["called"] or each["name"] for each in (model, optimizer))
    values = values_of(program, *names, spec["device"], *settings)
    return program.filled({**values, "seed": spec["seed"], "out": out})


def placeholders(template: str) -> list[str]:
    """The names that stand in a text, in their order."""
    return [found[2] for found in PLACEHOLDER.finditer(template) if found[2]]


def fill(template: str, values: Mapping[str, Any]) -> str:
    """A text with values in place of their names, as Python prints them; other names stay."""

    def one(found: re.Match[str]) -> str:
        if found[2] is None:
            return f"{{{found[1]}}}"
        return str(values[found[2]]) if found[2] in values else found[0]

    return PLACEHOLDER.sub(one, template)
