"""An equal tuning budget: the trials of every arm, and the cells that wait for how they end."""

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pydantic

from bench.border.options import OwnModel, TrainOptions
from bench.border.program import GivenValues
from bench.border.spec import Optimizer
from bench.errors import nearest
from bench.matrix.explain import explain
from bench.matrix.forms import Form, type_of
from bench.matrix.space import (
    OF_TRAINING,
    Tunable,
    keys_of,
    settings_of,
    settings_text,
    to_try,
)
from bench.matrix.tune_forms import Tune
from bench.matrix.yamlfile import Wrong
from bench.records.cells import Cell, Tried

Arm = tuple[str, str, str]  # model and optimizer as the matrix names them, device

UNTUNED = 1  # the trial that is the matrix's own setting
# The built-in of an optimizer whose settings the trials have not told: there is none of that name.
NOT_KNOWN = "known after the trials"


def trial_name(optimizer: str, trial: int, study: int | None = None) -> str:
    return f"{optimizer}{f'-study-{study}' if study else ''}-trial-{trial}"


def tuned_name(optimizer: str) -> str:
    return f"{optimizer}-tuned"


def planned(tune: Tune, cells: Sequence[Cell]) -> tuple[list[Cell], list[Wrong]]:
    """The trials of every arm of these cells, then one cell for each of them that waits.

    With a mistake nothing is planned.
    """
    optimizers = {cell.spec.optimizer.name: cell for cell in cells}
    seeds = list(dict.fromkeys(cell.spec.seed for cell in cells))
    wrong = [
        *_check_seeds(tune, seeds),
        *_check_names(tune, set(optimizers)),
        *_check_space(tune, [cell.spec.optimizer for cell in optimizers.values()], cells[0]),
    ]
    if wrong:
        return [], wrong
    studies = [_Study(tune, number, seeds) for number in range(1, tune.studies + 1)]
    tried: dict[tuple[str, int], list[Any]] = {}  # what each trial of the first stage has
    for name, cell in optimizers.items():
        mine = options_of(cell)
        trials = tune.first_trials(len(keys_of(tune.space, mine)))
        for study in studies:
            try:
                found = to_try(tune.space, mine, trials, tune.sampler, study.number)
            except ValueError as error:
                wrong.append((("tune", "trials"), f"asks for {trials}; for {name} {error}."))
                break
            tried[name, study.number] = found
    if wrong:
        return [], wrong
    trials_of_all = [cell for study in studies for cell in _trials(study, cells, tried)]
    of_seed = {seed: study for study in studies for seed in study.judged_on}
    return [*trials_of_all, *(_waiting(cell, of_seed[cell.spec.seed].named) for cell in cells)], []


@dataclasses.dataclass(frozen=True)
class _Study:
    """One tuning, of which there may be several."""

    tune: Tune
    number: int  # from 1
    seeds: Sequence[int]  # of the matrix, all of them

    @property
    def named(self) -> int | None:
        """None where there is one alone."""
        return self.number if self.tune.studies > 1 else None

    @property
    def tried_on(self) -> Sequence[int]:
        return self._share(self.tune.seeds)

    @property
    def judged_on(self) -> Sequence[int]:
        return self._share(self.seeds)

    def _share(self, seeds: Sequence[int]) -> Sequence[int]:
        each = len(seeds) // self.tune.studies
        return seeds[(self.number - 1) * each : self.number * each]


def _check_seeds(tune: Tune, seeds: Sequence[int]) -> Iterator[Wrong]:
    for index, seed in enumerate(tune.seeds):
        where = ("tune", "seeds", index)
        if seed in tune.seeds[:index]:
            yield where, f"{seed} is listed twice. Remove one."
        if seed in seeds:
            what = f"{seed} is a seed of the matrix: what is chosen on it may not be judged on it."
            yield where, f"{what} Give another."
    for place, given in ((("tune", "seeds"), tune.seeds), (("matrix", "seed"), seeds)):
        if len(given) % tune.studies:
            what = f"{len(given)} seeds cannot be shared out equally among {tune.studies} studies."
            yield place, f"{what} Give a multiple of {tune.studies}."


def _check_names(tune: Tune, names: set[str]) -> Iterator[Wrong]:
    for name in sorted(names):
        made = {tuned_name(name), *_trial_names(tune, name)}
        for taken in sorted(made & names):
            what = f"{taken!r} is what tuning calls cells of {name!r}. Choose another name."
            yield ("optimizers", taken), what


def _trial_names(tune: Tune, optimizer: str) -> Iterator[str]:
    """As many as there may be: what an arm tries depends on its options."""
    most = tune.first_trials(len(tune.space)) + tune.refine
    studies = range(1, tune.studies + 1) if tune.studies > 1 else (None,)
    for study, trial in itertools.product(studies, range(1, most + 1)):
        yield trial_name(optimizer, trial, study)


def _check_space(tune: Tune, optimizers: Sequence[Optimizer], cell: Cell) -> Iterator[Wrong]:
    """Every key is an option of some optimizer or of training, and every value fits.

    Every optimizer has some. `cell`: any of the matrix, for how it trains.
    """
    of_training = () if cell.spec.program else OF_TRAINING
    known = {name for one in optimizers for name in settings_of(one.options)} | {*of_training}
    for key in tune.space:
        if key not in known:
            what = f"no optimizer of the matrix has this option. {nearest(key, known)}"
            yield ("tune", "space", key), what
        yield from _check_range(tune, key)
    for entry in dataclasses.fields(TrainOptions) if of_training else ():
        if entry.name in tune.space and entry.name in of_training:
            yield from _check_values(tune, "train", entry)
    for optimizer in optimizers:
        mine = keys_of(tune.space, optimizer.options)
        if tune.refine and not any(not isinstance(tune.space[key], list) for key in mine):
            what = f"looks around the best value of a range, and {optimizer.name!r} has none."
            yield ("tune", "refine"), f"{what} Give it one in tune.space, or leave refine out."
        if not mine and not tune.space.keys() & {*of_training}:
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
    study: _Study, cells: Sequence[Cell], tried: Mapping[tuple[str, int], Sequence[Any]]
) -> Iterator[Cell]:
    """Seed by seed, trial by trial, all arms of one before the next, their order rotated.

    Those of the second stage wait for the first.
    """
    tune, arms = study.tune, list({arm_of(cell): cell for cell in cells}.values())
    first = {
        cell.spec.optimizer.name: len(tried[cell.spec.optimizer.name, study.number])
        for cell in arms
    }
    turns = itertools.product(study.tried_on, range(1, max(first.values()) + tune.refine + 1))
    for turn, (seed, trial) in enumerate(turns):
        start = turn % len(arms)
        for order, cell in enumerate(arms[start:] + arms[:start]):
            name = cell.spec.optimizer.name
            if trial > first[name] + tune.refine:
                continue
            part = Tried("trial", name, trial, "", cell.spec.settings, study.named)
            trying = dataclasses.replace(
                cell,
                spec=dataclasses.replace(cell.spec, seed=seed),
                order_in_seed=order,
                tried=part,
            )
            waiting = _not_known(trying, trial_name(name, trial, study.named))
            if trial > first[name]:
                yield waiting
                continue
            options = tried[name, study.number][trial - 1]
            yield with_options(waiting, cell.spec.optimizer.base, options, tune)


def _waiting(cell: Cell, study: int | None) -> Cell:
    """The tuned twin of a cell of the matrix, until its settings are known."""
    name = cell.spec.optimizer.name
    part = Tried("tuned", name, None, "", cell.spec.settings, study)
    return _not_known(dataclasses.replace(cell, tried=part), tuned_name(name))


def _not_known(cell: Cell, called: str) -> Cell:
    optimizer, tried = cell.spec.optimizer, cell.tried
    which = called if tried and tried.part == "trial" else optimizer.name
    unknown = Optimizer(called, f"{which}, {NOT_KNOWN}", _called(optimizer))
    return dataclasses.replace(cell, spec=dataclasses.replace(cell.spec, optimizer=unknown))


def options_of(cell: Cell) -> Any:
    """What a space may vary of it: of a program its optimizer's values alone."""
    spec = cell.spec
    return _called(spec.optimizer) if spec.program else Tunable(spec.optimizer.options, spec.train)


def with_options(cell: Cell, base: str, options: Any, tune: Tune) -> Cell:
    """A trial with the settings that it tries; `base`: what its optimizer is."""
    assert cell.tried is not None
    mine, train = (
        (options.options, options.train)
        if isinstance(options, Tunable)
        else (options, cell.spec.train)
    )
    optimizer = Optimizer(cell.spec.optimizer.name, base, mine)
    spec = dataclasses.replace(cell.spec, optimizer=optimizer, train=train)
    settings = settings_text(tune.space, options)
    return dataclasses.replace(
        cell, spec=spec, tried=dataclasses.replace(cell.tried, settings=settings)
    )


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
