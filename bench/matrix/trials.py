"""An equal tuning budget: the trials of every arm, and the cells that follow from their rows."""

import dataclasses
import itertools
import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pydantic

from bench.border.options import OwnModel
from bench.border.program import GivenValues
from bench.border.spec import Optimizer
from bench.errors import nearest
from bench.matrix.explain import explain
from bench.matrix.forms import Form, Tune, type_of
from bench.matrix.space import keys_of, settings_of, settings_text, to_try
from bench.matrix.yamlfile import Wrong
from bench.records.cells import Cell, Tried
from bench.records.columns import SETTLED
from bench.records.endings import by_circumstances, ending
from bench.records.folder import ResultsFolder, check_there
from bench.records.programs import figure_of, setup_of
from bench.records.rows import Row, by_cell, read_runs

Arm = tuple[str, str, str]  # model and optimizer as the matrix names them, device

UNTUNED = 1  # the trial that is the matrix's own setting
# By these two trials are told to be one: no two settings that differ end with both.
LOSSES = ("train_loss_final", "val_loss_final")
# The built-in of an optimizer whose settings the trials have not told: there is none of that name.
NOT_KNOWN = "known after the trials"


def trial_name(optimizer: str, trial: int) -> str:
    return f"{optimizer}-trial-{trial}"


def tuned_name(optimizer: str) -> str:
    return f"{optimizer}-tuned"


def planned(tune: Tune, cells: Sequence[Cell]) -> tuple[list[Cell], list[Wrong]]:
    """The trials of every arm of these cells, then one cell for each of them that waits.

    With a mistake nothing is planned.
    """
    optimizers = {cell.spec.optimizer.name: cell.spec.optimizer for cell in cells}
    wrong = [
        *_check_seeds(tune, {cell.spec.seed for cell in cells}),
        *_check_names(tune, set(optimizers)),
        *_check_space(tune, list(optimizers.values())),
    ]
    if wrong:
        return [], wrong
    tried: dict[str, list[Any]] = {}  # the options of each trial
    for name, optimizer in optimizers.items():
        try:
            tried[name] = to_try(tune.space, _called(optimizer), tune.trials, tune.sampler)
        except ValueError as error:
            wrong.append((("tune", "trials"), f"asks for {tune.trials}; for {name} {error}."))
    if wrong:
        return [], wrong
    return [*_trials(tune, cells, tried), *map(_waiting, cells)], []


def _check_seeds(tune: Tune, seeds: set[int]) -> Iterator[Wrong]:
    for index, seed in enumerate(tune.seeds):
        where = ("tune", "seeds", index)
        if seed in tune.seeds[:index]:
            yield where, f"{seed} is listed twice. Remove one."
        if seed in seeds:
            what = f"{seed} is a seed of the matrix: what is chosen on it may not be judged on it."
            yield where, f"{what} Give another."


def _check_names(tune: Tune, names: set[str]) -> Iterator[Wrong]:
    for name in sorted(names):
        made = {tuned_name(name), *(trial_name(name, n + 1) for n in range(tune.trials))}
        for taken in sorted(made & names):
            what = f"{taken!r} is what tuning calls cells of {name!r}. Choose another name."
            yield ("optimizers", taken), what


def _check_space(tune: Tune, optimizers: Sequence[Optimizer]) -> Iterator[Wrong]:
    """Every key is an option of some optimizer, every optimizer has some, every value fits."""
    known = {name for one in optimizers for name in settings_of(one.options)}
    for key in tune.space:
        if key not in known:
            what = f"no optimizer of the matrix has this option. {nearest(key, known)}"
            yield ("tune", "space", key), what
        yield from _check_range(tune, key)
    for optimizer in optimizers:
        if not keys_of(tune.space, optimizer.options):
            what = f"names no option of {optimizer.name!r}, and every arm is to be tuned."
            has = ", ".join(settings_of(optimizer.options)) or "none in the matrix"
            yield ("tune", "space"), f"{what} It has: {has}."
        if isinstance(optimizer.options, OwnModel | GivenValues):
            continue  # what its class takes, its class knows
        for entry in dataclasses.fields(optimizer.options):
            if entry.name in tune.space:
                yield from _check_values(tune, optimizer.name, entry)


def _check_range(tune: Tune, key: str) -> Iterator[Wrong]:
    values, where = tune.space[key], ("tune", "space", key)
    if isinstance(values, list):
        return
    low, high = values.ends
    if not low < high:
        yield where, f"runs from {low:g} to {high:g}. Give the lower end first."
    if tune.sampler == "grid":
        yield where, "is a range, and a grid has values. List them."


def _check_values(tune: Tune, optimizer: str, entry: "dataclasses.Field[Any]") -> Iterator[Wrong]:
    values, where = tune.space[entry.name], ("tune", "space", entry.name)
    if not isinstance(values, list) and entry.type is not float:
        yield where, f"is a range; {entry.name} of {optimizer} wants values. List them."
        return
    form: Any = pydantic.create_model("Value", __base__=Form, value=(type_of(entry), ...))
    for index, value in enumerate(values if isinstance(values, list) else values.ends):
        try:
            form(value=value)
        except pydantic.ValidationError as failure:
            inside = (index,) if isinstance(values, list) else ()
            why = explain(failure.errors()[0], [])
            yield (*where, *inside), f"not for {optimizer}: {why}"


def _trials(
    tune: Tune, cells: Sequence[Cell], tried: Mapping[str, Sequence[Any]]
) -> Iterator[Cell]:
    """Seed by seed, trial by trial, all arms of one before the next, their order rotated."""
    arms = list({arm_of(cell): cell for cell in cells}.values())
    turns = itertools.product(tune.seeds, range(1, tune.trials + 1))
    for turn, (seed, trial) in enumerate(turns):
        start = turn % len(arms)
        for order, cell in enumerate(arms[start:] + arms[:start]):
            name = cell.spec.optimizer.name
            options = tried[name][trial - 1]
            optimizer = Optimizer(trial_name(name, trial), cell.spec.optimizer.base, options)
            yield Cell(
                dataclasses.replace(cell.spec, optimizer=optimizer, seed=seed),
                cell.limits,
                order,
                Tried("trial", name, trial, settings_text(tune.space, options)),
            )


def _waiting(cell: Cell) -> Cell:
    """The tuned twin of a cell of the matrix, until its settings are known."""
    name = cell.spec.optimizer.name
    options = _called(cell.spec.optimizer)
    optimizer = Optimizer(tuned_name(name), f"{name}, {NOT_KNOWN}", options)
    spec = dataclasses.replace(cell.spec, optimizer=optimizer)
    return dataclasses.replace(cell, spec=spec, tried=Tried("tuned", name, None, ""))


def _called(optimizer: Optimizer) -> Any:
    """Its options; a program's {optimizer} goes on to stand for what the matrix calls it."""
    options = optimizer.options
    if not isinstance(options, GivenValues):
        return options
    return dataclasses.replace(options, called=optimizer.name)


def arm_of(cell: Cell) -> Arm:
    """The arm of the matrix that a cell belongs to, also as a trial of it."""
    model, optimizer, device, _ = cell.place
    return model, cell.tried.optimizer if cell.tried else optimizer, device


def decided(cells: Sequence[Cell], tune: Tune, rows: Iterable[Row]) -> list[Cell]:
    """The cells, those that waited with their settings where all trials of their arm have ended.

    Where no trial was better than the untuned one, a tuned cell has the run_id of the untuned one
    on its seed: they are one run under two names. Where no trial differs from another, nothing was
    tuned, and tuned cells go on waiting. `rows`: the terminal ones.
    """
    rows = list(rows)
    same = alike(cells, rows)
    ended = {row["run_id"]: row for row in rows if row["status"] in SETTLED}
    trials: dict[Arm, list[Cell]] = defaultdict(list)
    for cell in cells:
        if cell.part == "trial":
            trials[arm_of(cell)].append(cell)
    chosen = {
        arm: _choose(of_arm, tune.metric, ended)
        for arm, of_arm in trials.items()
        if not is_pointless(same.get(arm, []), tune.trials)
    }
    return [
        _tuned(cell, best) if cell.waits and (best := chosen.get(arm_of(cell))) else cell
        for cell in cells
    ]


def alike(cells: Sequence[Cell], rows: Iterable[Row]) -> dict[Arm, list[list[int]]]:
    """Trials of an arm that ended with the same losses, to the last digit, on every seed.

    Their settings differ in writing alone: no optimizer holds them. `rows`: as for `decided`.
    """
    ended = {row["run_id"]: row for row in rows if row["status"] == "ok"}
    losses: dict[Arm, dict[int, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for cell in cells:
        if cell.tried and cell.tried.trial and cell.part == "trial":
            row = ended.get(cell.spec.run_id)
            losses[arm_of(cell)][cell.tried.trial].append(losses_of(row) if row else None)
    found = {arm: same_losses(by_trial) for arm, by_trial in losses.items()}
    return {arm: groups for arm, groups in found.items() if groups}


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
        assert cell.tried is not None
        assert cell.tried.trial is not None
        by_trial[cell.tried.trial].append(cell)
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
    assert best.tried is not None
    optimizer = dataclasses.replace(best.spec.optimizer, name=waited.spec.optimizer.name)
    spec = dataclasses.replace(waited.spec, optimizer=optimizer)
    return dataclasses.replace(
        waited, spec=spec, tried=dataclasses.replace(best.tried, part="tuned")
    )
