"""What `import` was asked -> what is imported. Mistakes in options are told at once."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic
import yaml

from bench.errors import ForeignError, Mistake, nearest
from bench.matrix.claim_forms import Claim
from bench.matrix.explain import explain
from bench.matrix.program_forms import AnyClaim
from bench.run.imported.figures import Figure, pairs, read_figures
from bench.run.imported.results import Foreign, ForeignRun, Place
from bench.run.imported.table import Columns, read_csv

KEYS = ("model", "optimizer", "seed", "device")
NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class CsvRequest:
    """The options of `import FILE.csv`."""

    columns: Mapping[str, str]  # those of KEYS that were given
    fixed: Sequence[str]  # KEY=VALUE
    metrics: Sequence[str]  # NAME=COLUMN
    better: Sequence[str]  # NAME=lower|higher
    steps: str
    baseline: str  # MODEL+OPTIMIZER; empty: no claim
    margin: float | None
    name: str  # empty: that of the file

    def read(self, path: Path) -> tuple[Foreign, str]:
        """What is imported, and how its fields are separated.

        Raises:
            ForeignError: for options that cannot be, or a file that cannot be read by them.
        """
        columns = self._columns()
        table = read_csv(path, columns)
        name = self.name or NOT_IN_A_NAME.sub("-", path.stem).strip("-._") or "imported"
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        runs: dict[Place, ForeignRun] = {
            place: ForeignRun(course.outcome(path.name), course.curve())
            for place, course in table.courses.items()
        }
        declared = {figure.name: figure.better for figure in columns.figures if figure.better}
        settings = {"name": path.name, **({"metrics": declared} if declared else {})}
        steps = {"steps": self.steps} if self.steps else {}
        asked: dict[str, Any] = {
            "name": name,
            "program": {"metrics": {each: {"better": way} for each, way in declared.items()}},
            "imported": {
                "file": path.name,
                "sha256": sha256,
                "columns": {**self.columns, **steps},
                "set": dict(columns.fixed),
                "metrics": {figure.name: figure.column for figure in columns.figures},
            },
        }
        if self.baseline:
            asked["claim"] = self._claim(columns.figures[0], runs)
        matrix = yaml.safe_dump(asked, sort_keys=False, allow_unicode=True)
        told = json.dumps({"program": settings}, sort_keys=True)
        return Foreign(name, matrix, told, sha256, _planned(runs), runs), table.separator

    def _columns(self) -> Columns:
        figures, wrong = read_figures(self.metrics, self.better)
        fixed = dict(pairs("--set", self.fixed, wrong))
        unknown = fixed.keys() - {*KEYS}
        wrong += [f"--set {key}: no such key. {nearest(key, KEYS)}" for key in unknown]
        for key in KEYS:
            if key in fixed and key in self.columns:
                wrong.append(f"--{key} and --set {key}: give one of them.")
            elif key not in fixed and key not in self.columns and key != "device":
                wrong.append(f"--{key} COLUMN is missing, or --set {key}=VALUE for all runs.")
        if not figures and not self.metrics:
            wrong.append("--metric is missing, such as --metric val_loss=COLUMN.")
        if bool(self.baseline) != (self.margin is not None):
            wrong.append("--baseline and --margin make a claim together: give both, or none.")
        _raise(wrong)
        return Columns(self.columns, fixed, figures, self.steps)

    def _claim(self, figure: Figure, places: Iterable[Place]) -> dict[str, Any]:
        """A claim about the first figure."""
        arms = dict.fromkeys(f"{place.model}+{place.optimizer}" for place in places)
        if (asked := self.baseline.replace(" ", "")) not in arms:
            _raise([f"--baseline {self.baseline}: no such runs. {nearest(asked, arms)}"])
        model, _, optimizer = asked.partition("+")
        baseline = {"model": model, "optimizer": optimizer}
        claim = {"baseline": baseline, "metric": figure.final, "margin": self.margin}
        try:
            (AnyClaim if figure.better else Claim).model_validate(claim)
        except pydantic.ValidationError as failure:
            wrong = ((error["loc"][-1], explain(error, ())) for error in failure.errors())
            _raise([f"--{option}: {why}" for option, why in wrong])
        return claim


def _planned(runs: Iterable[Place]) -> list[Place]:
    """Each configuration with every seed of the file: who keeps no failed runs has a gap there."""
    seeds = dict.fromkeys(place.seed for place in runs)
    arms = dict.fromkeys(place[:-1] for place in runs)
    return [Place(*arm, seed) for seed in seeds for arm in arms]


def _raise(wrong: Sequence[str]) -> None:
    if wrong:
        raise ForeignError("the options", [Mistake(0, "", each) for each in wrong])
