"""Where the uncertainty of a claimed loss comes from: seeds, rounding, the text."""

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.merge.arms import Arm
from bench.merge.merging import Merged
from bench.merge.raw import Array, asked, window_losses
from bench.merge.sections import Section
from bench.records.columns import AT_EQUAL_COST, TO_TARGET
from bench.records.kinds import LOSS
from bench.report.family import Comparison, Family
from bench.statistics.blocks import block_length, error_of_mean
from bench.statistics.contrast import BySeed

# Figures of one split's windows, all of which the last evaluation has gone through.
SPLITS = {"val_loss_final": "val", "val_loss_tail": "val", "test_loss_final": "test"}


@dataclass(frozen=True)
class Uncertainty:
    """Standard errors of one comparison's mean, in the metric's unit. None: not known."""

    comparison: Comparison
    seeds: float | None
    rounding: float | None
    repeated: int  # seeds that ran on another processor, or on more or fewer threads, as well
    text: float | None
    parts: int  # of the split, in its order; 0: not known
    block: int  # so many neighbours of them are drawn together

    @property
    def seeds_and_text(self) -> float | None:
        """Of a claim about other text of this kind; rounding is among what seeds vary."""
        known = self.seeds is not None and self.text is not None
        return math.hypot(self.seeds or 0.0, self.text or 0.0) if known else None


def uncertainties(
    section: Section, family: Family, sections: Iterable[Section], merged: Merged
) -> list[Uncertainty]:
    """Of each comparison of a loss at equal steps.

    None of other claims, nor where runs are no pairs. `sections`: all of the report, in which cells
    of this one may have run elsewhere.
    """
    at_cost = family.metric in (*AT_EQUAL_COST, *TO_TARGET)
    if family.column.kind != LOSS or at_cost or not section.setup.is_paired:
        return []
    repeats = [other for other in sections if _elsewhere(section, other)]
    return [_uncertainty(each, family, repeats, merged) for each in family.comparisons]


def _uncertainty(
    comparison: Comparison, family: Family, repeats: Sequence[Section], merged: Merged
) -> Uncertainty:
    contrast = comparison.contrast
    arms = [comparison.arm] if family.fixed else [comparison.arm, family.baseline]
    # Studies of one number have other settings elsewhere.
    again = {} if family.unit == "study" else _again(arms, family.metric, repeats, merged)
    figures = [arm.spread(family.metric).by_seed for arm in arms]
    here = _less(figures)
    groups = [[here[seed], *again[seed]] for seed in contrast.by_seed if again.get(seed)]
    split = SPLITS.get(family.metric, "")
    series = _series(arms, split, merged) if split else None
    return Uncertainty(
        comparison,
        seeds=contrast.sd / math.sqrt(contrast.n) if contrast.sd is not None else None,
        rounding=math.sqrt(_within(groups) / contrast.n) if groups else None,
        repeated=len(groups),
        text=None if series is None else error_of_mean(series),
        parts=0 if series is None else len(series),
        block=0 if series is None else block_length(series),
    )


# --- rounding


def _elsewhere(section: Section, other: Section) -> bool:
    """Whether the same code and torch ran on another processor, or in other threads.

    These add up in another order, and that is all that they do otherwise.
    """
    code = [(each.key.code_sha256, each.values("torch_version")) for each in (section, other)]
    places = zip(_processor(section), _processor(other), strict=True)
    return code[0] == code[1] and any(here and there and here != there for here, there in places)


def _processor(section: Section) -> tuple[object, ...]:
    return section.key.threads, section.values("host_cpu_model"), section.key.gpu_name


def _again(
    arms: Sequence[Arm], metric: str, repeats: Iterable[Section], merged: Merged
) -> dict[int, list[float]]:
    """Seed -> what is compared, as it came out in other sections of what was asked here."""

    def asked_of(arm: Arm) -> dict[str, Any] | None:
        return asked(arm.ok[0], merged) if arm.ok else None

    found: dict[int, list[float]] = defaultdict(list)
    for section in repeats:
        there = [(asked_of(arm), arm.spread(metric).by_seed) for arm in section.arms]
        same = [
            next((figures for told, figures in there if told and told == here), {})
            for here in map(asked_of, arms)
        ]
        for seed, value in _less(same).items():
            found[seed].append(value)
    return found


def _less(figures: Sequence[BySeed]) -> BySeed:
    """The first figure of each seed, less the second where there is one."""
    first, *others = figures
    seeds = [seed for seed in first if all(seed in other for other in others)]
    return {seed: first[seed] - sum(other[seed] for other in others) for seed in seeds}


def _within(groups: Sequence[Sequence[float]]) -> float:
    """The mean square within groups, each of two figures or more."""
    squares = math.fsum((len(group) - 1) * statistics.variance(group) for group in groups)
    return squares / sum(len(group) - 1 for group in groups)


# --- the text


def _series(arms: Sequence[Arm], split: str, merged: Merged) -> Array | None:
    """What is compared, window by window: (n,), the mean over seeds that kept them in all arms."""
    found = []
    for seed in sorted(set.intersection(*({*arm.by_seed} for arm in arms))):
        losses = [window_losses(arm.by_seed[seed], merged, split) for arm in arms]
        known = [each for each in losses if each is not None]
        if len(known) == len(arms):
            found.append(known)
    lengths = {len(each) for losses in found for each in losses}
    if len(lengths) != 1:
        return None
    return np.asarray(np.mean([losses[0] - sum(losses[1:]) for losses in found], axis=0))
