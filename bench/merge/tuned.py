"""What tuning tried in a section, arm by arm and study by study, and which settings were taken."""

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.matrix.choice import best_trial, is_pointless, losses_of, same_losses
from bench.merge.arms import Arm
from bench.merge.merging import EndedCell
from bench.merge.sections import Section
from bench.records.columns import SETTLED


@dataclass(frozen=True)
class Trial:
    """One setting of an arm, on every seed of its study."""

    number: int  # from 1
    settings: Mapping[str, Any]
    figures: tuple[float | None, ...]  # of the tuned metric, a seed each; None: did not end ok
    losses: tuple[tuple[str, ...] | None, ...]  # likewise, choice.losses_of a seed

    @property
    def mean(self) -> float | None:
        """None unless every seed has a figure: a mean over fewer is of other seeds."""
        known = [figure for figure in self.figures if figure is not None]
        return statistics.fmean(known) if known and len(known) == len(self.figures) else None


@dataclass(frozen=True)
class Tuning:
    """The trials of one arm of the matrix in one study."""

    model: str
    optimizer: str  # as the matrix has it
    study: int | None  # None: there is one alone
    trials: tuple[Trial, ...]
    seeds: int  # of the tuning
    best: Trial | None  # None: some have not ended
    untuned: Arm | None
    tuned: Arm | None

    @property
    def arm(self) -> str:
        return f"{self.model} + {self.optimizer}"

    @property
    def label(self) -> str:
        return f"{self.arm}, study {self.study}" if self.study else self.arm

    @property
    def alike(self) -> list[list[int]]:
        """Trials that were one: their settings reach nothing that trains."""
        return same_losses({trial.number: trial.losses for trial in self.trials})

    @property
    def different(self) -> int:
        """How many settings were tried in truth."""
        return len(self.trials) - sum(len(same) - 1 for same in self.alike)

    @property
    def edges(self) -> list[str]:
        """The settings whose best value is the least or the largest that was tried.

        0 is no edge: nothing lies below it. Nor is the only value of a setting.
        """
        if self.best is None:
            return []
        return [key for key, value in self.best.settings.items() if self._is_edge(key, value)]

    def _is_edge(self, key: str, value: Any) -> bool:
        values = {trial.settings.get(key) for trial in self.trials}
        tried = [one for one in values if isinstance(one, int | float)]
        if len(tried) < len(values) or len(tried) == 1:
            return False
        return bool(value == max(tried) or (value == min(tried) and value != 0))


def by_arm(found: Iterable[Tuning]) -> dict[str, list[Tuning]]:
    """The studies of each arm."""
    arms: dict[str, list[Tuning]] = {}
    for one in found:
        arms.setdefault(one.arm, []).append(one)
    return arms


def tunings(section: Section, metric: str) -> list[Tuning]:
    """Of every arm with trials and each study, in the order of the plans."""
    by_study: dict[tuple[str, str, str], list[EndedCell]] = {}
    for cell in section.trials:
        by_study.setdefault((cell.model, cell.tuned_optimizer, cell.study), []).append(cell)
    found = []
    for (model, optimizer, study), cells in by_study.items():
        trials = _trials(cells, metric)
        ended = all(cell.status in SETTLED for cell in cells)
        same = same_losses({trial.number: trial.losses for trial in trials})
        chosen = ended and not is_pointless(same, len(trials))
        figures = {trial.number: trial.figures for trial in trials}
        column = section.setup.columns[metric]
        best = best_trial(figures, column.more_is_better) if chosen else None
        found.append(
            Tuning(
                model=model,
                optimizer=optimizer,
                study=int(study) if study else None,
                trials=tuple(trials),
                seeds=len({cell.seed for cell in cells}),
                best=next((trial for trial in trials if trial.number == best), None),
                untuned=_arm(section, model, lambda arm: arm.optimizer, optimizer),
                tuned=_arm(section, model, lambda arm: arm.untuned, optimizer),
            )
        )
    return found


def _arm(section: Section, model: str, name: Any, optimizer: str) -> Arm | None:
    found = [arm for arm in section.arms if (arm.model, name(arm)) == (model, optimizer)]
    return found[0] if len(found) == 1 else None


def _trials(cells: Sequence[EndedCell], metric: str) -> list[Trial]:
    by_number: dict[int, list[EndedCell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        by_number.setdefault(int(cell.trial), []).append(cell)
    return [
        Trial(
            number,
            _settings(of_trial),
            tuple(cell.number(metric) if cell.ok else None for cell in of_trial),
            tuple(losses_of(cell.row) if cell.row and cell.ok else None for cell in of_trial),
        )
        for number, of_trial in sorted(by_number.items())
    ]


def _settings(cells: Iterable[EndedCell]) -> Mapping[str, Any]:
    """As a row tells them; none where no cell has one."""
    texts = [text for cell in cells if (text := cell.text("tuned_settings"))]
    try:
        found = json.loads(texts[0]) if texts else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
