"""What the rows of a program tell beyond columns: the figures that it declares, and its seeds.

`settings` has it for all rows of a matrix alike, `metrics` has the figures of one row.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

from bench.records.columns import COLUMNS, METRICS, OF_CURVES
from bench.records.kinds import LOSS, Column
from bench.records.rows import Row, as_field, as_number
from bench.statistics.text import of_loss

# What columns mean of a program, of which nothing is known but what it prints.
OF_PROGRAMS: dict[str, str] = {
    "train_loss_final": "the last loss on its training split that the program printed",
    "val_loss_final": "the last loss on its validation split that the program printed",
    "test_loss_final": "the last loss on its test split that the program printed",
    "val_loss_best": "the lowest loss on its validation split that the program printed",
    "perplexity": "as the program printed it",
    "bits_per_char": "as the program printed it",
    "bits_per_byte": "as the program printed it",
    "n_params": "parameters, as the program printed it",
    "train_time_s": "as step_time_source says: told by the program, or by the stamps of its lines",
    "tokens_per_s": "as the program printed it, or tokens / train_time_s",
    "host_rss_peak_mib": "the largest peak resident memory of its processes",
    "cpu_time_s": "CPU time of all its processes",
    "code_sha256": "hash of the files of ours that run and read the program",
}


@dataclass(frozen=True)
class Setup:
    """What all rows with one text of `settings` share."""

    program: Mapping[str, Any]  # what `settings` says of it; empty: our own training
    columns: Mapping[str, Column]  # of every figure that such a row may have, or a claim of them

    @property
    def is_paired(self) -> bool:
        """Whether runs of one seed are a pair; else a seed is a number and nothing more."""
        return self.program.get("seeds") != "replicates"

    @property
    def declared(self) -> tuple[str, ...]:
        """The program's own metrics."""
        return tuple(name for name in self.columns if name not in OURS.columns)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every figure that has a mean over seeds, its own last."""
        return (*METRICS, *self.declared)


OURS = Setup({}, COLUMNS | OF_CURVES)


@cache
def setup_of(settings: str) -> Setup:
    """By the column `settings`; our own training where a row, or an older folder, tells nothing."""
    program = json.loads(settings or "{}").get("program")
    if program is None:
        return OURS
    declared = {
        name: Column(
            "a figure that the program printed, by its matrix's `metrics`",
            LOSS,
            more_is_better=better == "higher",
            heading=name,
            decimals=of_loss,
        )
        for name, better in program.get("metrics", {}).items()
    }
    return Setup(program, {**OURS.columns, **_columns(), **declared})


def joined_setup(settings: Iterable[str]) -> Setup:
    """All figures that rows of any of these may have; it says nothing of how seeds pair."""
    found = [setup_of(text).columns for text in settings]
    columns = {name: column for each in (*found, OURS.columns) for name, column in each.items()}
    return Setup({}, columns)


def _columns() -> dict[str, Column]:
    """The columns that mean another thing here; of losses nobody knows the unit."""
    of_ours = {name: (COLUMNS[name], meaning) for name, meaning in OF_PROGRAMS.items()}
    return {
        name: replace(column, meaning=meaning, unit="" if column.kind == LOSS else column.unit)
        for name, (column, meaning) in of_ours.items()
    }


def field_of(row: Row, name: str) -> str:
    """A field of a row, by the name of a column or of a declared metric; empty if unknown."""
    if name in row or not row.get("metrics"):
        return row.get(name, "")
    return as_field(_metrics(row["metrics"]).get(name))


def figure_of(row: Row, name: str) -> float | None:
    """The same as a finite number; None if it is unknown or infinite."""
    return as_number(field_of(row, name))


@lru_cache(maxsize=4096)
def _metrics(text: str) -> Mapping[str, float]:
    found: Mapping[str, float] = json.loads(text)
    return found
