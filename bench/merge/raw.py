"""Raw figures of single cells, from the files beside their logs: step times, readings of a GPU.

A file may be missing, damaged or hostile. What cannot be read as it should be is left out, and
nothing outside of the results folder is ever opened.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from operator import attrgetter, methodcaller
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from bench.border.spec import CellFiles
from bench.merge.arms import Arm
from bench.merge.merging import EndedCell, Merged
from bench.records.rows import LARGEST_FIGURE

Array = NDArray[np.float64]

MOST_CELLS = 5  # of one arm whose files are looked at: they are the largest of all
LEAST_MS = 1e-9  # no step is shorter, and a logarithmic axis holds it
LARGEST_BYTES = 64 * 2**20  # of one file: a million steps, a day of samples


@dataclass(frozen=True)
class StepTimes:
    """One entry a sample, which spans one step or several in a row."""

    time_ms: Array  # of one step: the sample's mean
    steps: Array  # how many the sample spans


@dataclass(frozen=True)
class Reading:
    """One figure of a cell's GPUs over time."""

    time_s: Array  # since the launch, ascending
    value: Array


@dataclass(frozen=True)
class GpuReadings:
    """None: not sampled."""

    memory_mib: Reading | None
    memory_is_own: bool  # of the cell's own processes; else of the whole device
    power_w: Reading | None
    sm_clock_mhz: Reading | None
    of_several: bool = False  # GPUs: memory and power of all together, the mean of their clocks

    def __bool__(self) -> bool:
        return any((self.memory_mib, self.power_w, self.sm_clock_mhz))


def step_times(cell: EndedCell, merged: Merged) -> StepTimes | None:
    """steps.csv of an attempt."""
    table = _table(cell, merged, attrgetter("steps"), ("steps", "time_ms"))
    if table is None:
        return None
    known = table[(table["steps"] >= 1) & (table["time_ms"] >= LEAST_MS)].dropna()
    if known.empty:
        return None
    steps = known["steps"].to_numpy()
    return StepTimes(known["time_ms"].to_numpy() / steps, steps)


def pooled(parts: Sequence[StepTimes]) -> StepTimes:
    return StepTimes(
        np.concatenate([part.time_ms for part in parts]),
        np.concatenate([part.steps for part in parts]),
    )


def gpu_readings(cell: EndedCell, merged: Merged) -> GpuReadings | None:
    """samples.csv of an attempt; None without a single figure of a GPU."""
    wanted = ["time_s", "gpu_own_mib", "gpu_used_mib", "gpu_power_instant_w"]
    wanted += ["gpu_power_average_w", "sm_clock_mhz"]
    table = _table(cell, merged, attrgetter("samples"), wanted, younger=["gpu"])
    if table is None:
        return None
    own = _reading(table, "gpu_own_mib")
    found = GpuReadings(
        memory_mib=own or _reading(table, "gpu_used_mib"),
        memory_is_own=own is not None,
        power_w=_reading(table, "gpu_power_instant_w") or _reading(table, "gpu_power_average_w"),
        sm_clock_mhz=_reading(table, "sm_clock_mhz", together="mean"),
        of_several=table["gpu"].nunique() > 1,
    )
    return found or None


def window_losses(cell: EndedCell, merged: Merged, split: str) -> Array | None:
    """Nats a token of each part of a split, in its order, at the last evaluation: (n,).

    Parts hold as many windows to one. None where they were not kept: by an older version, or where
    evaluations draw windows at random.
    """
    table = _table(cell, merged, methodcaller("windows", split), ["loss"])
    if table is None or table.empty or table["loss"].isna().any():
        return None
    return table["loss"].to_numpy()


def asked(cell: EndedCell, merged: Merged) -> dict[str, Any] | None:
    """What was asked of a cell, but for its seed and the number of threads, which only round."""
    home = merged.sources[cell.source].path
    path = file_of(home, _files(cell, merged).spec)
    try:
        if path is None or path.stat().st_size > LARGEST_BYTES:
            return None
        spec = json.loads(path.read_bytes())
        del spec["run_id"], spec["seed"], spec["train"]["threads"]
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None
    return dict(spec)


def clean_cells(arm: Arm) -> list[EndedCell]:
    """Those that its timing statistics use, by seed: the first MOST_CELLS."""
    return list(islice(arm.timed_by_seed.values(), MOST_CELLS))


def _reading(table: pd.DataFrame, column: str, together: str = "sum") -> Reading | None:
    """Of several GPUs, `together` at the moments at which all that tell it did."""
    known = table[["time_s", "gpu", column]].dropna(subset=["time_s", column])
    known = known.sort_values("time_s", kind="stable")
    if (telling := known["gpu"].nunique()) > 1:
        moments = known.groupby("time_s", as_index=False)[column].agg([together, "count"])
        known = moments[moments["count"] == telling].rename(columns={together: column})
    if len(known) < 2:  # one moment is no course
        return None
    return Reading(known["time_s"].to_numpy(), known[column].to_numpy())


def _table(
    cell: EndedCell,
    merged: Merged,
    file: Callable[[CellFiles], Path],
    columns: Sequence[str],
    younger: Sequence[str] = (),
) -> pd.DataFrame | None:
    """Numeric columns of a cell's CSV; an empty or infinite field is NaN.

    `younger`: those that older files lack, where they are NaN throughout.
    """
    path = file_of(merged.sources[cell.source].path, file(_files(cell, merged)))
    if path is None:
        return None
    every = [*columns, *younger]
    types: dict[str, type] = defaultdict(lambda: str, dict.fromkeys(every, np.float64))
    try:
        if path.stat().st_size > LARGEST_BYTES:
            return None
        table = pd.read_csv(path, dtype=types)
    except (OSError, ValueError, OverflowError):  # pandas' own errors are ValueErrors
        return None
    # Rows that are longer than the header would have made their first fields an index.
    if not isinstance(table.index, pd.RangeIndex) or not set(columns) <= set(table.columns):
        return None
    numbers = table.reindex(columns=every)
    return numbers.mask(np.isinf(numbers)).clip(-LARGEST_FIGURE, LARGEST_FIGURE)


def _files(cell: EndedCell, merged: Merged) -> CellFiles:
    home = merged.sources[cell.source].path
    return CellFiles(home / "cells" / f"{cell.run_id}-{cell.text('attempt')}")


def file_of(root: Path, path: Path) -> Path | None:
    """A regular file within a results folder, wherever links lead; None if it is none."""
    try:
        real = path.resolve(strict=True)
        return real if real.is_file() and real.is_relative_to(root.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # also a name with a NUL, and links in a circle
        return None
