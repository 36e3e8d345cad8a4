"""A published results folder, and what a page may say of it, computed from its CSVs."""

from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from statistics import fmean, median
from typing import TypeVar

import numpy as np

from bench.merge.arms import Arm
from bench.merge.asked import read_asked
from bench.merge.curves import Cost, flops
from bench.merge.disturbed import is_disturbed
from bench.merge.merging import EndedCell, merge
from bench.merge.sections import make_sections
from bench.merge.tuned import Tuning, tunings
from bench.records.columns import COLUMNS
from bench.report.family import Family, least_seeds, make_family
from bench.statistics.contrast import BySeed, Contrast, difference
from bench.statistics.ends import End, Ends
from bench.statistics.ladder import Ladder
from bench.statistics.power import SeedsNeeded, seeds_to_decide
from bench.statistics.target import first_held
from bench.statistics.verdict import alpha_of_look, judge
from tests.builders.shared import ROOT

LOSS = "val_loss_final"
LEAST_UNDISTURBED = 3  # seeds: a time over fewer is not published

GPT_ADAMW, GPT_TRUEMUON, GPT_MUON = "nanogpt + adamw", "nanogpt + truemuon", "nanogpt + muon"
KIMI_ADAMW, KIMI_TRUEMUON = "nanokimi + adamw", "nanokimi + truemuon"
IN_WORDS = {
    GPT_ADAMW: "NanoGPT + AdamW",
    GPT_TRUEMUON: "NanoGPT + TrueMuon",
    GPT_MUON: "NanoGPT + Muon",
    KIMI_ADAMW: "NanoKimi + AdamW",
    KIMI_TRUEMUON: "NanoKimi + TrueMuon",
}

T = TypeVar("T")
Sentences = Iterable[str]  # pieces of a page, on one line each


class Published:
    """A folder with one section, a claim, and one ok cell a seed and arm.

    Arms have the names of the tables: "nanokimi + truemuon".
    """

    def __init__(self, folder: Path) -> None:
        self.merged = merge([folder])
        (self.section,) = make_sections(self.merged)
        self.asked = read_asked([folder])

    @cached_property
    def family(self) -> Family:
        return known(make_family(self.section, self.asked, look=1))

    @property
    def ladder(self) -> Ladder:
        (ladder,) = self.family.ladders
        return ladder

    def tuning(self, name: str) -> Tuning:
        found = tunings(self.section, self.asked.tuned_on)
        return next(tuning for tuning in found if tuning.label == name)

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.section.arms if arm.label == name)

    def cells(self, name: str) -> dict[int, EndedCell]:
        return dict(self.arm(name).by_seed)

    def figures(self, name: str, column: str) -> dict[int, float]:
        """A figure of runs.csv a seed, disturbed or not."""
        return {seed: known(cell.number(column)) for seed, cell in self.cells(name).items()}

    def mean(self, name: str, column: str) -> float:
        return fmean(self.figures(name, column).values())

    def undisturbed(self, *names: str) -> list[int]:
        """The seeds at which nothing disturbed any of these arms."""
        seeds = self.cells(names[0])
        return [
            seed
            for seed in seeds
            if not any(is_disturbed(self.cells(name)[seed]) for name in names)
        ]

    def ratios(self, new: str, base: str, column: str) -> list[float]:
        """Of a time, at the seeds that are undisturbed in both."""
        above, below = self.figures(new, column), self.figures(base, column)
        found = [above[seed] / below[seed] for seed in self.undisturbed(new, base)]
        assert len(found) >= LEAST_UNDISTURBED
        return found

    def contrast(self, new: BySeed, base: BySeed) -> Contrast:
        """With the confidence of the claim's intervals, whether it was claimed or not."""
        return difference(new, base, relative=False, confidence=self.family.confidence)

    def difference(self, new: str, base: str, column: str = LOSS) -> Contrast:
        return self.contrast(self.figures(new, column), self.figures(base, column))

    def at_equal_cost(
        self, new: str, base: str, cost: Cost, seeds: Sequence[int] | None = None
    ) -> Contrast:
        """Of validation losses where the baseline ends, which is first; linear in between."""
        losses: dict[str, dict[int, float]] = {new: {}, base: {}}
        for seed in seeds or self.cells(base):
            spent = {name: cost(self.arm(name), self.cells(name)[seed].curve) for name in losses}
            end = spent[base][-1]
            assert end <= spent[new][-1]
            for name, found in losses.items():
                curve = self.cells(name)[seed].curve
                found[seed] = float(np.interp(end, spent[name], curve.val_loss))
        return self.contrast(losses[new], losses[base])

    def operations(self, name: str) -> float:
        """Of a whole training."""
        arm = self.arm(name)
        return float(flops(arm, arm.ok[0].curve)[-1])

    def loss_at(self, name: str, step: int) -> dict[int, float]:
        curves = {seed: cell.curve for seed, cell in self.cells(name).items()}
        return {
            seed: float(curve.val_loss[curve.steps.tolist().index(step)])
            for seed, curve in curves.items()
        }

    def until_held(self, name: str, target: float, cost: Cost) -> dict[int, float]:
        """What an arm spends until it holds a validation loss, a seed."""
        curves = {seed: cell.curve for seed, cell in self.cells(name).items()}
        return {
            seed: float(
                cost(self.arm(name), curve)[known(first_held(curve.val_loss.tolist(), target))]
            )
            for seed, curve in curves.items()
        }

    def to_hold(self, name: str, target: float, cost: Cost) -> float:
        """The median over the seeds."""
        return median(self.until_held(name, target, cost).values())

    def verdict(self, contrast: Contrast) -> str:
        """Of losses, by the rules of the report."""
        judged = judge(
            contrast,
            Ends({(End.FINISHED, End.FINISHED): contrast.n}),
            margin=self.family.margin,
            lower_is_better=True,
            least_seeds=least_seeds(COLUMNS[LOSS]),
        )
        return judged.verdict.value

    def seeds_if(self, contrast: Contrast, difference: float) -> SeedsNeeded:
        """Those that would decide at the next look, were this the true difference."""
        alpha = alpha_of_look(self.family.look + 1) / len(self.family.comparisons)
        least = max(contrast.n + 1, least_seeds(COLUMNS[LOSS]))
        return seeds_to_decide(known(contrast.sd), contrast.n, difference, alpha, least)


@cache
def published(name: str) -> Published:
    """Of results/NAME."""
    return Published(ROOT / "results" / name)


def known(value: T | None) -> T:
    assert value is not None
    return value


def mean(contrast: Contrast) -> float:
    return known(contrast.mean)


def bounds(contrast: Contrast) -> str:
    interval = known(contrast.interval)
    return f"{interval.low:+.4f} to {interval.high:+.4f}"


def told(contrast: Contrast) -> str:
    return f"{mean(contrast):+.4f} ({bounds(contrast)})"


def confidence(p: Published) -> str:
    return f"{100 * p.family.confidence:.2f} %"


def billions(p: Published, arm: str) -> str:
    return f"{p.operations(arm) / 1e9:,.0f} × 10⁹"


def work_ratio(p: Published, arm: str, base: str) -> str:
    return f"{p.operations(arm) / p.operations(base):.2f} times"
