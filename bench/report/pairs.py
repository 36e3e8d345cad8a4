"""Which seeds of two arms make a pair, and how the others ended."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

from bench.merge.arms import Arm, fewest_seeds
from bench.merge.sections import Section
from bench.records.columns import TIMED, TIMINGS, is_relative
from bench.statistics.contrast import BySeed, Contrast, correlation, difference
from bench.statistics.ends import End, Ends


@dataclass(frozen=True)
class Paired:
    """One arm against the baseline by one figure, before any verdict."""

    contrast: Contrast  # arm - baseline, in the metric's unit
    ends: Ends  # of what the contrast counts: seeds, studies or machines
    runs: Ends  # of all seeds or studies
    correlation: float | None  # of the pairs; None without them
    without_figure: int  # that finished in both and lack it: their times were disturbed
    repeated: int  # seeds that are left out since they drew what another one drew
    without_ratio: bool = False  # some figure is 0


def over_seeds(section: Section, arm: Arm, baseline: Arm, metric: str, confidence: float) -> Paired:
    """Seed by seed, or study by study."""
    is_paired = section.setup.is_paired
    relative = is_relative(metric, section.setup.columns[metric])
    known = [each.spread(metric).by_seed for each in (arm, baseline)]
    new, base = (measured(each, relative) for each in known)
    by_seed = ends_of_pairs(arm, baseline, new, base, metric)
    asked = [{seed: each[seed] for seed in by_seed if seed in each} for each in (new, base)]
    contrast = difference(
        *asked,
        relative=relative,
        confidence=confidence,
        least=fewest_seeds(metric, section.timing),
        pairs=is_paired,
    )
    ends = Ends(Counter(by_seed.values()))
    both = [seed for seed, end in by_seed.items() if end == (End.FINISHED, End.FINISHED)]
    return Paired(
        replace(contrast, unit=arm.unit),
        ends,
        ends,
        correlation(new, base) if is_paired else None,
        without_figure=sum(any(seed not in each for each in contrast.groups) for seed in both),
        repeated=len(repeated(arm, baseline)),
        without_ratio=metric not in TIMINGS and len(new) + len(base) < sum(map(len, known)),
    )


def ends_of_pairs(
    arm: Arm, baseline: Arm, new: BySeed, base: BySeed, metric: str
) -> Mapping[int, tuple[End, End]]:
    """How either arm ended at each seed, or study, that was planned for both.

    A finished run without the figure is one that the arm lacks: a loss that no field can hold (a
    perplexity of 1e400), an energy that was not read. Only a time that was disturbed is none, for
    that leaves its seed out of all arms alike. One that fell short of the claim's target has lost
    to any that did not.
    Seeds that drew what another one drew are no seeds. Where some seeds ran here that had run
    otherwise as well, those that ran otherwise and not here were left out by choice.
    """

    seeds = (arm.seeds_of.keys() & baseline.seeds_of.keys()) - repeated(arm, baseline)
    sides = ((arm, new), (baseline, base))
    ends: dict[int, tuple[End, End]] = {}
    for seed in sorted(seeds):
        one, other = (how_it_ended(side, figures, seed, metric) for side, figures in sides)
        ends[seed] = (one, other)
    missing = {seed for seed, pair in ends.items() if pair == (End.MISSING, End.MISSING)}
    otherwise = {side.study_of.get(s, s) for side, _ in sides for s in side.otherwise}
    if otherwise & (ends.keys() - missing):
        ends |= dict.fromkeys(missing & otherwise, (End.OTHERWISE, End.OTHERWISE))
    return ends


def how_it_ended(arm: Arm, figures: BySeed, seed: int, metric: str) -> End:
    """A seed that finished without the figure is missing; short of a target it has lost."""
    found = arm.end(seed)
    if found is End.FINISHED and arm.missed(metric, seed):
        return End.MISSED
    asked = metric not in TIMED or (arm.timing.has(metric) and arm.is_timed(seed))
    unknown = found is End.FINISHED and asked and seed not in figures
    return End.MISSING if unknown else found


def repeated(arm: Arm, baseline: Arm) -> set[int]:
    """Seeds to leave out since one arm drew there what it drew at another; not where one failed.

    No study: it draws settings as well.
    """
    if arm.study_of or baseline.study_of:
        return set()
    failed = arm.failed.keys() | baseline.failed.keys()
    return (arm.same_draw.keys() | baseline.same_draw.keys()) - failed


def measured(figures: BySeed, relative: bool) -> BySeed:
    """Without what has no ratio: a time of 0 was not measured."""
    return {seed: value for seed, value in figures.items() if value > 0 or not relative}
