"""What every picture is drawn from, and what it is with its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from bench.merge.arms import Arm
from bench.merge.asked import Asked
from bench.merge.merging import Merged
from bench.merge.sections import Section
from bench.report.family import Comparison, Family
from bench.report.plots.canvas import Files
from bench.report.plots.style import Style

MOST_ARMS = 20  # in one picture: of more, nobody finds a line by its look


@dataclass(frozen=True)
class Drawing:
    """A picture of one section."""

    name: str  # its files' stem
    caption: str
    alt: str  # what a reader who cannot see it needs
    files: Files

    @property
    def file(self) -> str:
        """Beside the page."""
        return f"{self.name}.png"

    @property
    def place(self) -> str:
        """Where it belongs: beside the claim; where no script draws the curves; or as evidence."""
        if self.name.startswith("forest"):
            return "answer"
        return "curves" if self.name.startswith("loss_") else "evidence"


@dataclass(frozen=True)
class Scene:
    """A section as its pictures show it: with MOST_ARMS arms at most."""

    section: Section
    family: Family | None
    merged: Merged
    title: str  # goes into the files
    looks: Mapping[str, Style]  # by label, the same in all pictures
    asked: Asked
    at_cost: Family | None = None  # the family at equal cost, where it is about equal steps
    note: str = ""  # which arms are shown, if not all; a sentence

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
        return self.shown(self.family) if self.family else []

    def shown(self, family: Family) -> list[Comparison]:
        """Of a family of the section, those of the arms that are shown."""
        arms = {arm.arm_id for arm in self.arms}
        return [comparison for comparison in family.comparisons if comparison.arm.arm_id in arms]


def make_scene(
    section: Section,
    family: Family | None,
    merged: Merged,
    title: str,
    looks: Mapping[str, Style],
    asked: Asked,
    at_cost: Family | None = None,
) -> Scene:
    """Of more arms than MOST_ARMS: the baseline and the best by the metric, in the plans' order."""
    scene = Scene(section, family, merged, title, looks, asked, at_cost)
    arms = section.arms
    if len(arms) <= MOST_ARMS:
        return scene
    metric = family.metric if family else section.main_metric
    kept = {family.baseline.arm_id} if family else set()
    others = [arm for arm in arms if arm.arm_id not in kept]
    kept |= {arm.arm_id for arm in best_of(section, others, metric, MOST_ARMS - len(kept))}
    shown = tuple(arm for arm in arms if arm.arm_id in kept)
    which = "the baseline and the best" if family else "the best"
    note = f"{len(shown)} of {len(arms)} configurations: {which} by {metric}."
    return replace(scene, section=replace(section, arms=shown), note=note)


def best_of(section: Section, arms: Sequence[Arm], metric: str, most: int) -> list[Arm]:
    """Of a section's arms at most so many, those of the best mean, in order; unknown is last."""
    sign = -1 if section.setup.columns[metric].more_is_better else 1

    def rank(arm: Arm) -> tuple[bool, float]:
        mean = arm.spread(metric).mean
        return (mean is None, sign * (mean or 0.0))

    best = {arm.arm_id for arm in sorted(arms, key=rank)[:most]}
    return [arm for arm in arms if arm.arm_id in best]
