"""What every picture is drawn from, and what it is with its words."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from bench.merge.merging import Merged
from bench.merge.sections import Arm, Section
from bench.records.columns import HIGHER_IS_BETTER
from bench.report.family import EXPLORATORY_METRIC, Comparison, Family
from bench.report.plots.canvas import Files
from bench.report.plots.style import Style
from bench.statistics.ladder import Ladder

MOST_ARMS = 20  # in one picture: of more, nobody finds a line by its look


@dataclass(frozen=True)
class Drawing:
    """A picture of one section."""

    name: str  # its files' stem in the first section
    caption: str
    alt: str  # what a reader who cannot see it needs
    files: Files


@dataclass(frozen=True)
class Scene:
    """A section as its pictures show it: with MOST_ARMS arms at most."""

    section: Section
    family: Family | None
    merged: Merged
    title: str  # goes into the files
    looks: Mapping[str, Style]  # by label, the same in all pictures
    note: str  # which arms are shown, if not all; a sentence
    tuned_on: str  # the column by which trials are ranked

    @property
    def arms(self) -> tuple[Arm, ...]:
        return self.section.arms

    def look(self, arm: Arm) -> Style:
        return self.looks[arm.label]

    def drawing(self, name: str, caption: str, alt: str, files: Files) -> Drawing:
        """With the note on what is shown."""
        return Drawing(name, f"{caption} {self.note}".rstrip(), alt, files)

    @property
    def comparisons(self) -> list[Comparison]:
        """Those of the arms that are shown."""
        shown = {arm.arm_id for arm in self.arms}
        found = self.family.comparisons if self.family else ()
        return [comparison for comparison in found if comparison.arm.arm_id in shown]

    def shows(self, ladder: Ladder) -> bool:
        """Whether the arm at its top is shown; those between may not be."""
        top = (ladder.model, ladder.optimizer)
        return top in [(arm.model, arm.optimizer) for arm in self.arms]

    def look_of(self, model: str, optimizer: str) -> Style:
        """Of an arm that a ladder names: one of the family's, shown or not."""
        arms = [comparison.arm for comparison in self.family.comparisons] if self.family else []
        names = (model, optimizer)
        return next(self.look(arm) for arm in arms if (arm.model, arm.optimizer) == names)


def make_scene(
    section: Section,
    family: Family | None,
    merged: Merged,
    title: str,
    looks: Mapping[str, Style],
    tuned_on: str = EXPLORATORY_METRIC,
) -> Scene:
    """Of more arms than MOST_ARMS: the baseline and the best by the metric, in the plans' order."""
    arms = section.arms
    if len(arms) <= MOST_ARMS:
        return Scene(section, family, merged, title, looks, "", tuned_on)
    metric = family.metric if family else EXPLORATORY_METRIC
    baseline = {family.baseline.arm_id} if family else set()
    best = _best_first((arm for arm in arms if arm.arm_id not in baseline), metric)
    kept = baseline | {arm.arm_id for arm in best[: MOST_ARMS - len(baseline)]}
    shown = tuple(arm for arm in arms if arm.arm_id in kept)
    which = "the baseline and the best" if family else "the best"
    note = f"{len(shown)} of {len(arms)} arms: {which} by {metric}."
    shown_part = replace(section, arms=shown)
    return Scene(shown_part, family, merged, title, looks, note, tuned_on)


def _best_first(arms: Iterable[Arm], metric: str) -> list[Arm]:
    sign = -1 if metric in HIGHER_IS_BETTER else 1

    def rank(arm: Arm) -> tuple[bool, float]:
        mean = arm.spread(metric).mean
        return (mean is None, sign * (mean or 0.0))

    return sorted(arms, key=rank)
