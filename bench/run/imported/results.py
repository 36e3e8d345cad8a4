"""Runs that were made elsewhere -> a results folder, as a run of ours leaves one.

Its rows have ids of their own, and an environment that names the files they were read from: they
stand in no section with runs that were made here, and count as no cell of a matrix.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pydantic

from bench.border.identity import SCHEMA_VERSION, digest
from bench.border.spec import CellFiles
from bench.errors import FolderError
from bench.matrix.explain import explain
from bench.matrix.forms import Exclude
from bench.program.output import OutputLog
from bench.records.columns import IMPORTED, RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.hold import Newcomer
from bench.records.rows import write_table
from bench.records.tables import CURVE_COLUMNS, PLAN_COLUMNS

DIGITS = 12  # of a hash
CHUNK = 2**20  # bytes


class Place(NamedTuple):
    """What a run is called."""

    model: str
    optimizer: str
    device: str  # empty: not known
    seed: int

    @property
    def why_not(self) -> dict[str, str]:
        """Its fields that a matrix could not have, each with why and the remedy."""
        told = {**self._asdict(), "device": self.device or None}
        try:
            Exclude.model_validate(told)
        except pydantic.ValidationError as failure:
            return {str(error["loc"][0]): explain(error, ()) for error in failure.errors()}
        return {}

    @property
    def ids(self) -> dict[str, str]:
        arm = {"imported": [self.model, self.optimizer, self.device]}
        return {"run_id": digest({**arm, "seed": self.seed}), "arm_id": digest(arm)}


@dataclass(frozen=True)
class ForeignRun:
    """What is known of a run that was made elsewhere."""

    columns: Mapping[str, Any]  # of runs.csv: status, reason, figures
    curve: Sequence[Mapping[str, Any]]  # rows of curve.csv
    log: Path | None = None

    @property
    def steps(self) -> int | None:
        """By which all that decides was told, of a run that ended ok; None: not known."""
        return self.columns.get("steps") if self.columns["status"] == "ok" else None

    def ended_before(self, steps: int) -> "ForeignRun":
        why = f"it ends at step {self.steps}, and others of its configuration at step {steps}"
        columns = {"status": "crashed", "reason": f"{why} (without --any-length)"}
        return replace(self, columns={**columns, "steps": self.steps})


@dataclass(frozen=True)
class Foreign:
    """What is imported."""

    name: str
    matrix: str  # text of matrix.yaml, with the claim
    settings: str  # JSON, as the column has it
    sha256: str  # of the files that it was read from
    planned: Sequence[Place]  # each run that there should be
    runs: Mapping[Place, ForeignRun]

    def held_to_length(self) -> "Foreign":
        """Runs that ended before others of their configuration count as crashed.

        No file tells why they did: by a crash, by hand, or as their losses were NaN no more.
        """
        longest: dict[str, int] = {}
        for place, run in self.runs.items():
            arm = place.ids["arm_id"]
            longest[arm] = max(longest.get(arm, 0), run.steps or 0)
        early = {
            place: run.ended_before(longest[place.ids["arm_id"]])
            for place, run in self.runs.items()
            if run.steps is not None and run.steps < longest[place.ids["arm_id"]]
        }
        return replace(self, runs={**self.runs, **early})

    def write(self, path: Path, newcomer: Newcomer | None = None) -> None:
        """Make a results folder of it; runs.csv comes last. `newcomer`: as of `locked`.

        Raises:
            FolderError: if the folder has runs already, or cannot be written.
        """
        folder = ResultsFolder(path)
        with folder.locked(newcomer), folder.writing():
            if folder.runs.exists():
                raise FolderError(f"{path} has runs already. Give another --out.")
            folder.put(folder.matrix, self.matrix)
            planned = [{**self._told(place), "selected": True} for place in self.planned]
            write_table(folder.plan, PLAN_COLUMNS, planned, folder.put)
            rows = [self._row(folder, place, run) for place, run in self.runs.items()]
            write_table(folder.curves, CURVE_COLUMNS, self._curves(), folder.put)
            write_table(folder.runs, RUN_COLUMNS, rows, folder.put)

    def _told(self, place: Place) -> dict[str, Any]:
        return {**place.ids, **place._asdict(), "name": self.name, "settings": self.settings}

    def _curves(self) -> Iterator[dict[str, Any]]:
        for place, run in self.runs.items():
            which = {"run_id": place.ids["run_id"], "attempt": 1}
            yield from ({**point, **which} for point in run.curve)

    def _row(self, folder: ResultsFolder, place: Place, run: ForeignRun) -> dict[str, Any]:
        """The row of a run, with its files written."""
        files = CellFiles(folder.cells / f"{place.ids['run_id']}-1")
        row = {**self._told(place), "attempt": 1, "schema_version": SCHEMA_VERSION}
        row |= {"runtime": IMPORTED, "env_id": f"{IMPORTED}:{self.sha256[:DIGITS]}"}
        if run.curve or run.log:
            files.folder.mkdir(exist_ok=True)
        if run.curve:
            write_table(files.curve, CURVE_COLUMNS, run.curve)
        if run.log:
            _copy_log(run.log, files.log)
            row["log_path"] = str(files.log.relative_to(folder.path))
        return row | dict(run.columns)


def _copy_log(source: Path, target: Path) -> None:
    """As much of it as a cell of a program keeps."""
    with source.open("rb") as file, target.open("wb") as copy:
        log = OutputLog(copy.fileno())
        for data in iter(partial(file.read, CHUNK), b""):
            log.write(data)
        log.close()
