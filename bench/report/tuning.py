"""What the trials say of the tuning itself: edges, how far rates carry, how much it errs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.matrix.tune_forms import Linear, Log, Space
from bench.merge.tuned import Trial, Tuning
from bench.report.family import Comparison, Family
from bench.statistics.contrast import Contrast, difference
from bench.statistics.tuning import error_of_tuning

RATE = "lr"  # what is drawn and told against, where it was tuned; else the first number that was


def key_of(found: Sequence[Tuning]) -> str | None:
    """The setting that stands for all: a number of which several positive values were tried."""
    tried: dict[str, set[float]] = {}
    for one in found:
        for trial in one.trials:
            for key, value in trial.settings.items():
                if isinstance(value, int | float) and value > 0:
                    tried.setdefault(key, set()).add(value)
    several = [key for key, values in tried.items() if len(values) > 1]
    return RATE if RATE in several else next(iter(several), None)


def edges_of_ranges(studies: Sequence[Tuning], space: Space) -> list[str]:
    """Ranges whose best value was the least or largest tried, in half of the studies or more."""
    keys = [key for key, values in space.items() if isinstance(values, Log | Linear)]
    return [key for key in keys if 2 * sum(key in one.edges for one in studies) >= len(studies)]


def within(
    studies: Sequence[Tuning], key: str, margin: float, more_is_better: bool
) -> tuple[float, float] | None:
    """Of a setting, the least and largest value of trials within a margin of their study's best."""
    near = [
        trial.settings[key]
        for one in studies
        for trial in one.trials
        if _is_near(trial, one.best, margin, more_is_better)
        and isinstance(trial.settings.get(key), int | float)
    ]
    return (min(near), max(near)) if near else None


def _is_near(trial: Trial, best: Trial | None, margin: float, more_is_better: bool) -> bool:
    if best is None or best.mean is None or trial.mean is None:
        return False
    worse = best.mean - trial.mean if more_is_better else trial.mean - best.mean
    return worse <= margin


def simulated_error(studies: Sequence[Tuning], space: Space) -> float | None:
    """Standard deviation of one arm's tuned figure over tunings: bench/statistics/tuning.py."""
    keys = [key for key, values in space.items() if isinstance(values, Log | Linear)]
    known = [
        (study, trial)
        for study, one in enumerate(studies)
        for trial in one.trials
        if trial.mean is not None
    ]
    at = np.array(
        [
            [_share(space[key], each.settings[key]) for key in keys if key in each.settings]
            for _, each in known
        ]
    )
    if at.ndim != 2 or not at.shape[1]:
        return None
    means = np.array([each.mean for _, each in known])
    return error_of_tuning(at, means, np.array([study for study, _ in known]))


def _share(values: Any, value: float) -> float:
    """Where in a range a value lies: 0 at its low end, 1 at its high one."""
    low, high = values.ends
    if isinstance(values, Log):
        low, high, value = (math.log(max(each, 1e-300)) for each in (low, high, value))
    return float((value - low) / (high - low))


@dataclass(frozen=True)
class Splits:
    """One comparison on the split that settings were chosen by, beside that of the claim."""

    chosen_by: Contrast
    disagree: bool  # the two differ by more than their units explain


def on_both_splits(comparison: Comparison, family: Family, tuned_on: str) -> Splits | None:
    """None where the claim is about what tuning chose by."""
    if family.metric == tuned_on or family.relative:
        return None
    arms = comparison.arm, family.baseline
    chosen, claimed = (
        [arm.spread(name).by_seed for arm in arms] for name in (tuned_on, family.metric)
    )
    confidence, pairs = family.confidence, family.setup.is_paired
    by_choice = difference(*chosen, relative=False, confidence=confidence, pairs=pairs)
    if not pairs or not by_choice.n:
        return None
    both = difference(*claimed, relative=False, confidence=confidence).by_seed
    known = both.keys() & by_choice.by_seed.keys()
    apart = Contrast(
        {unit: both[unit] - by_choice.by_seed[unit] for unit in known},
        relative=False,
        confidence=confidence,
        scale=by_choice.scale,
    )
    return Splits(by_choice, apart.interval is not None and apart.interval.excludes(0))
