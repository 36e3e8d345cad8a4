"""How the trials ended -> which settings were best, and the cells that follow from them."""

import dataclasses
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.matrix.space import around, to_try
from bench.matrix.trials import Arm, arm_of, options_of, with_options
from bench.matrix.tune_forms import Tune
from bench.records.cells import Cell
from bench.records.columns import SETTLED
from bench.records.endings import by_circumstances, ending
from bench.records.folder import ResultsFolder, check_there
from bench.records.programs import figure_of, setup_of
from bench.records.rows import Row, by_cell, read_runs

# By these two trials are told to be one: no two settings that differ end with both.
LOSSES = ("train_loss_final", "val_loss_final")

Tuning = tuple[Arm, int | None]  # an arm in one study


def tuning_of(cell: Cell) -> Tuning:
    return arm_of(cell), cell.tried.study if cell.tried else None


def decided(cells: Sequence[Cell], tune: Tune, rows: Iterable[Row]) -> list[Cell]:
    """The cells, those that waited with their settings where all trials before them have ended.

    Where no trial was better than the untuned one, a tuned cell has the run_id of the untuned one
    on its seed: they are one run under two names. Where no trial differs from another, nothing was
    tuned, and tuned cells go on waiting. `rows`: the terminal ones.
    """
    rows = list(rows)
    ended = {row["run_id"]: row for row in rows if row["status"] in SETTLED}
    cells = _refined(cells, tune, ended)
    pointless = pointless_in(cells, rows)
    chosen = {
        tuning: _choose(trials, tune.metric, ended)
        for tuning, trials in _trials(cells).items()
        if tuning not in pointless
    }
    return [
        _tuned(cell, best)
        if cell.waits and cell.part == "tuned" and (best := chosen.get(tuning_of(cell)))
        else cell
        for cell in cells
    ]


def _refined(cells: Sequence[Cell], tune: Tune, ended: Mapping[str, Row]) -> list[Cell]:
    """The cells, trials of the second stage with their settings where those of the first ended."""
    known: dict[tuple[Tuning, int], tuple[str, Any]] = {}  # what each tries, and of what base
    for tuning, trials in _trials(cells).items():
        first = [cell for cell in trials if not cell.waits]
        if len(first) == len(trials) or not (best := _choose(first, tune.metric, ended)):
            continue
        mine, base, (_, study) = options_of(best), best.spec.optimizer.base, tuning
        space = around(tune.space, mine)
        _, *sampled = to_try(space, mine, tune.refine + 1, tune.sampler, study or 1)
        numbers = sorted({_number(cell) for cell in trials if cell.waits})
        known |= {(tuning, n): (base, one) for n, one in zip(numbers, sampled, strict=True)}

    def settled(cell: Cell) -> Cell:
        found = known.get((tuning_of(cell), _number(cell))) if cell.part == "trial" else None
        return with_options(cell, *found, tune) if cell.waits and found else cell

    return list(map(settled, cells))


def _trials(cells: Sequence[Cell]) -> dict[Tuning, list[Cell]]:
    found: dict[Tuning, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.part == "trial":
            found[tuning_of(cell)].append(cell)
    return found


def _number(cell: Cell) -> int:
    """Of a trial."""
    assert cell.tried is not None
    return cell.tried.trial or 0


def alike(cells: Sequence[Cell], rows: Iterable[Row]) -> dict[Tuning, list[list[int]]]:
    """Trials of an arm that ended with the same losses, to the last digit, on every seed.

    Their settings differ in writing alone: no optimizer holds them. `rows`: as for `decided`.
    """
    ended = {row["run_id"]: row for row in rows if row["status"] == "ok"}
    found = {}
    for tuning, trials in _trials(cells).items():
        losses: dict[int, list[Any]] = defaultdict(list)
        for cell in trials:
            row = ended.get(cell.spec.run_id)
            losses[_number(cell)].append(losses_of(row) if row else None)
        if groups := same_losses(losses):
            found[tuning] = groups
    return found


def pointless_in(cells: Sequence[Cell], rows: Iterable[Row]) -> set[Tuning]:
    """Where every trial that has run was the same one."""
    counts = {
        tuning: len({_number(cell) for cell in trials if not cell.waits})
        for tuning, trials in _trials(cells).items()
    }
    same = alike(cells, rows)
    return {tuning for tuning, groups in same.items() if is_pointless(groups, counts[tuning])}


def losses_of(row: Mapping[str, str]) -> tuple[str, ...] | None:
    """By what a trial that ended ok is told from others; None if one is missing.

    A program may print one rounded figure: settings that differ may have it in common.
    """
    losses = tuple(row.get(name, "") for name in LOSSES)
    return (*losses, row.get("metrics", "")) if all(losses) else None


def is_pointless(same: Sequence[Sequence[int]], trials: int) -> bool:
    """Whether all trials of an arm are among those that are alike, in one group."""
    return any(len(group) == trials for group in same)


def same_losses(by_trial: Mapping[int, Sequence[Any]]) -> list[list[int]]:
    """The trials whose losses, seed by seed, are equal. None: it did not end ok, or not yet."""
    groups: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for trial, losses in by_trial.items():
        if None not in losses:
            groups[tuple(losses)].append(trial)
    return [trials for trials in groups.values() if len(trials) > 1]


def trials_of(folder: Path, codes: Collection[str]) -> list[Row]:
    """How the trials in another results folder ended, by one of these code_sha256.

    Raises:
        FolderError: if it is no results folder.
    """
    runs = ResultsFolder(folder).runs
    check_there(runs)
    rows = (row for row in read_runs(runs) if row.get("part") == "trial")
    counted = by_cell(row for row in rows if row["code_sha256"] in codes)
    last = (ending(by_circumstances(attempts)[-1]) for attempts in counted.values())
    return [row for row in last if row is not None]


def _choose(trials: Sequence[Cell], metric: str, ended: Mapping[str, Row]) -> Cell | None:
    """A cell of the best trial of an arm; None as long as some have not ended."""
    if any(cell.spec.run_id not in ended for cell in trials):
        return None
    by_trial: dict[int, list[Cell]] = defaultdict(list)
    for cell in trials:
        by_trial[_number(cell)].append(cell)
    figures = {
        trial: [figure(ended[cell.spec.run_id], metric) for cell in of_trial]
        for trial, of_trial in by_trial.items()
    }
    column = setup_of(trials[0].spec.settings).columns[metric]
    return by_trial[best_trial(figures, column.more_is_better)][0]


def figure(row: Row, metric: str) -> float | None:
    """A trial's figure on one seed; None if it did not end ok, or has none that is finite."""
    return figure_of(row, metric) if row["status"] == "ok" else None


def best_trial(figures: Mapping[int, Sequence[float | None]], more_is_better: bool) -> int:
    """The trial with the lowest mean over its seeds, or the highest; of equal ones the first.

    One that has failed on a seed ranks below every one that has failed on fewer.
    """

    def rank(trial: int) -> tuple[int, float, int]:
        known = [value for value in figures[trial] if value is not None]
        missing = len(figures[trial]) - len(known)
        mean = math.fsum(known) / len(known) if known else math.inf
        return missing, -mean if more_is_better else mean, trial

    return min(figures, key=rank)


def _tuned(waited: Cell, best: Cell) -> Cell:
    """A cell that waited, with the settings of its arm's best trial."""
    assert waited.tried is not None
    assert best.tried is not None
    optimizer = dataclasses.replace(best.spec.optimizer, name=waited.spec.optimizer.name)
    spec = dataclasses.replace(waited.spec, optimizer=optimizer, train=best.spec.train)
    tried = dataclasses.replace(waited.tried, trial=best.tried.trial, settings=best.tried.settings)
    return dataclasses.replace(waited, spec=spec, tried=tried)
