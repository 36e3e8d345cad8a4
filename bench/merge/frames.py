"""Merged results as pandas frames with typed columns; runs.parquet and summary.csv.

In a frame an unknown field is missing: NaN, <NA> or NaT. Numbers are float64 or Int64, true and
false boolean, times UTC timestamps, everything else text.
"""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from bench.merge.arms import Arm
from bench.merge.coverage import damage_note
from bench.merge.merging import EndedCell, Merged, merge
from bench.merge.reading import CURVE_FIGURES
from bench.merge.sections import Section, make_sections
from bench.records.columns import CONSTANTS, METRICS, RUN_COLUMNS, kind_of
from bench.records.folder import results_folders
from bench.records.kinds import FLAG, NUMBER, TEXT, WHOLE, Kind

# What the plan tells of every cell, open ones included.
PLANNED = ("run_id", "arm_id", "model", "optimizer", "device", "seed", "status")
# Of a cell's curve: whose it is. A folder that is copied or merged repeats the other three.
WHOSE = ("folder", "run_id", "host_id", "attempt", "model", "optimizer", "device", "seed")

# What an arm of a section is, in summary.csv.
IDENTITY = (
    *("host_id", "env_id", "code_sha256", "corpus", "corpus_sha256", "device", "gpu_name"),
    *("host_cpu_model", "runtime", "torch_version", "eval_protocol"),
    *("arm_id", "model", "optimizer"),
)
# n_seeds: distinct seeds with an ok row, the n of the statistics; n_seeds_timing: those that the
# timing statistics use; n_ok and n_planned: cells.
COUNTS = ("n_seeds", "n_seeds_timing", "n_seeds_planned", "n_ok", "n_planned")
# Of each metric over the seeds; low and high are the ends of the 95 % t interval of the mean.
PARTS = ("mean", "sd", "low", "high", "n")


def _of(metric: str) -> dict[str, Kind]:
    return {f"{metric}_{part}": WHOLE if part == "n" else NUMBER for part in PARTS}


# The columns of summary.csv, before those of what programs declare.
SUMMARY: dict[str, Kind] = {
    "section": WHOLE,
    **dict.fromkeys(IDENTITY, TEXT),
    **dict.fromkeys(COUNTS, WHOLE),
    "timing_clean": FLAG,  # false: every seed was disturbed, and the timing statistics show all
    **{name: kind_of(name) for name in CONSTANTS},
    **{name: kind for metric in METRICS for name, kind in _of(metric).items()},
}


@dataclass(frozen=True)
class Frames:
    """Results as tidy pandas frames."""

    cells: pd.DataFrame  # a row a selected cell: folder, section, then the columns of runs.csv
    curves: pd.DataFrame  # a row an evaluation of these: WHOSE, step, tokens, seconds, losses
    summary: pd.DataFrame  # a row an arm and section: the columns of summary.csv


def load(*folders: str | Path) -> Frames:
    """Read and merge results folders; damage in them is told as a warning.

    Raises:
        FolderError: for a folder that is not a results folder.
        RecordError: if no folder can be read.
    """
    merged = merge(results_folders(map(Path, folders)))
    for damage in merged.damage:
        warnings.warn(damage_note(damage), stacklevel=2)
    sections = make_sections(merged)
    return Frames(cells_frame(merged, sections), curves_frame(merged), summary_frame(sections))


def cells_frame(merged: Merged, sections: Sequence[Section]) -> pd.DataFrame:
    """A row a selected cell, in the order of the plans: its terminal row, with what it is.

    `section` is the number of its section, from 1; a cell that may belong to several is counted
    to the first. An open cell has the status `open`. Columns that a newer version has written are
    there as text, and what programs declare as numbers.
    """
    numbers: dict[int, int] = {}  # id of a cell -> the number of its first section
    for number, section in enumerate(sections, start=1):
        for cell in section.cells:
            numbers.setdefault(id(cell), number)
    names = [source.name for source in merged.sources]
    extra = dict.fromkeys(chain.from_iterable(cell.row or () for cell in merged.cells))
    declared = dict.fromkeys(chain.from_iterable(cell.setup.declared for cell in merged.cells))
    columns: dict[str, Any] = {
        "folder": pd.Series([names[cell.source] for cell in merged.cells], dtype="string"),
        "section": pd.Series([numbers.get(id(cell)) for cell in merged.cells], dtype=WHOLE.dtype),
    }
    for name in dict.fromkeys([*RUN_COLUMNS, *extra, *declared]):
        fields = (_field(cell, name) for cell in merged.cells)
        columns[name] = _typed(NUMBER if name in declared else kind_of(name), fields)
    return pd.DataFrame(columns)


def _field(cell: EndedCell, name: str) -> str:
    return str(getattr(cell, name)) if name in PLANNED else cell.text(name)


def _typed(kind: Kind, fields: Iterable[str]) -> "pd.Series[Any]":
    return pd.Series([kind.read(text) if text else None for text in fields], dtype=kind.dtype)


def curves_frame(merged: Merged) -> pd.DataFrame:
    """A row an evaluation of a cell's terminal attempt, in order of steps."""
    cells = [cell for cell in merged.cells if cell.curve]
    names = [source.name for source in merged.sources]
    lengths = [len(cell.curve) for cell in cells]
    columns: dict[str, Any] = {}
    for name in WHOSE:
        fields = [names[cell.source] if name == "folder" else _field(cell, name) for cell in cells]
        columns[name] = _typed(kind_of(name), fields).repeat(lengths).reset_index(drop=True)
    arrays = {"step": "steps", **{name: name for name in CURVE_FIGURES}}
    for name, attribute in arrays.items():
        parts = [getattr(cell.curve, attribute) for cell in cells]
        columns[name] = np.concatenate(parts) if parts else np.empty(0)
    return pd.DataFrame(columns).astype({"step": "int64"})


def summary_columns(sections: Sequence[Section]) -> dict[str, Kind]:
    """All columns of the summary.csv of these."""
    further = dict.fromkeys(chain.from_iterable(map(_further, sections)))
    return SUMMARY | {name: kind for metric in further for name, kind in _of(metric).items()}


def _further(section: Section) -> tuple[str, ...]:
    """Figures of its own: what a program declares, and what is claimed of curves."""
    return (*section.setup.declared, *section.claimed)


def summary_rows(sections: Sequence[Section]) -> Iterator[dict[str, Any]]:
    """summary.csv: rows with the columns of SUMMARY; units are in the names, unknown is None.

    `<metric>_n` is the number of seeds that have the figure: it may be below n_seeds, and for a
    timing below n_seeds_timing.
    """
    for number, section in enumerate(sections, start=1):
        for arm in section.arms:
            figures = _figures(arm, (*METRICS, *_further(section)))
            yield {"section": number, **_identity(section, arm), **figures}


def _identity(section: Section, arm: Arm) -> dict[str, Any]:
    told = {name: " ".join(section.values(name)) or None for name in IDENTITY}
    return {
        **told,
        "device": section.key.device,
        "arm_id": arm.arm_id,
        "model": arm.model,
        "optimizer": arm.optimizer,
        "n_seeds": arm.n_seeds,
        "n_seeds_timing": arm.n_seeds_timing,
        "n_seeds_planned": len(arm.seeds),
        "n_ok": len(arm.ok),
        "n_planned": arm.cells_planned,
        "timing_clean": section.timing.clean,
    }


def _figures(arm: Arm, metrics: Iterable[str]) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    for name in CONSTANTS:
        value = arm.constant(name)
        figures[name] = int(value) if value is not None and value.is_integer() else value
    for metric in metrics:
        spread = arm.spread(metric)
        interval = spread.interval
        figures |= {
            f"{metric}_mean": spread.mean,
            f"{metric}_sd": spread.sd,
            f"{metric}_low": interval and interval.low,
            f"{metric}_high": interval and interval.high,
            f"{metric}_n": spread.n,
        }
    return figures


def summary_frame(sections: Sequence[Section]) -> pd.DataFrame:
    """A row an arm and section, with the columns of summary.csv."""
    columns = summary_columns(sections)
    frame = pd.DataFrame(summary_rows(sections), columns=[*columns], dtype=object)
    return frame.astype({name: kind.dtype for name, kind in columns.items()})


def parquet(frame: pd.DataFrame) -> bytes:
    """A frame as a Parquet file; equal frames give equal bytes with one version of pyarrow."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
