"""What a file tells of one run, evaluation by evaluation -> how it ended, with its figures."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.records.columns import TIMINGS
from bench.records.tables import CURVE_COLUMNS
from bench.run.imported.figures import Figure
from bench.statistics.text import span

Values = tuple[float | None, ...]  # one a figure; None: unknown


@dataclass
class Course:
    """The lines of one run: by their steps, or one line where the file has none."""

    figures: Sequence[Figure]
    lines: dict[int | None, tuple[int, Values]] = field(default_factory=dict)

    def add(self, step: int | None, line: int, values: Values) -> int:
        """Take in a line; the number of an earlier one that contradicts it, else 0."""
        if step not in self.lines:
            self.lines[step] = (line, values)
            return 0
        earlier, known = self.lines[step]
        both = list(zip(known, values, strict=True))
        if any(None not in pair and repr(pair[0]) != repr(pair[1]) for pair in both):
            return earlier
        self.lines[step] = (line, tuple(old if new is None else new for old, new in both))
        return 0

    def ordered(self) -> list[tuple[int | None, tuple[int, Values]]]:
        return sorted(self.lines.items(), key=lambda each: each[0] or 0)

    def outcome(self, file: str) -> dict[str, Any]:
        """Columns of runs.csv: status, reason, and the last figures of a run that ended ok.

        Its steps are those by which all that decides was told.
        """
        known: dict[Figure, list[tuple[int | None, float]]] = {each: [] for each in self.figures}
        for step, (line, values) in self.ordered():
            for figure, value in zip(self.figures, values, strict=True):
                if value is not None:
                    known[figure].append((step, value))
                    if figure.is_loss and not math.isfinite(value):
                        return _diverged(figure, value, f"{file}, line {line}")
        for figure, found in known.items():
            if figure.better and found and not math.isfinite(found[-1][1]):
                return _diverged(figure, found[-1][1], file)
        deciding = [figure for figure in self.figures if figure.decides] or self.figures
        if missing := [figure.name for figure in deciding if not known[figure]]:
            where = f"line {span(line for line, _ in self.lines.values())}"
            return {"status": "crashed", "reason": f"no {', '.join(missing)} in {file}, {where}"}
        end = min(known[figure][-1][0] or 0 for figure in deciding)
        last = {
            figure: [value for step, value in found if figure in deciding or (step or 0) <= end]
            for figure, found in known.items()
        }
        return {"status": "ok", **({} if None in self.lines else {"steps": end}), **_final(last)}

    def curve(self) -> list[dict[str, Any]]:
        """Rows of curve.csv; none where the file has no steps, or no figure of it belongs there."""
        rows = []
        for step, (_, values) in self.ordered():
            named = zip(self.figures, values, strict=True)
            told = {each.name: value for each, value in named if each.name in CURVE_COLUMNS}
            if step is not None and any(value is not None for value in told.values()):
                rows.append({"step": step, **told})
        return rows


def _diverged(figure: Figure, value: float, where: str) -> dict[str, Any]:
    return {"status": "diverged", "reason": f"{figure.name} is {value} ({where})"}


def _final(known: dict[Figure, list[float]]) -> dict[str, Any]:
    """The last of each figure that is known, under the name that runs.csv has for it."""
    last = {figure: found[-1] for figure, found in known.items() if found}
    row: dict[str, Any] = {
        figure.final: int(value) if figure.is_whole else value
        for figure, value in last.items()
        if not figure.better
    }
    if any(name in TIMINGS for name in row):
        row["step_time_source"] = "told"
    declared = {figure.name: value for figure, value in last.items() if figure.better}
    if declared:
        row["metrics"] = json.dumps(declared)
    for figure, found in known.items():
        if figure.name == "val_loss" and len(found) > 1:
            row.setdefault("val_loss_best", min(found))
    return row
