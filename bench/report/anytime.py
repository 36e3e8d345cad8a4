"""An arm's difference from the baseline while both train: ahead early, and equal late?"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bench.merge.arms import Arm
from bench.merge.curves import Cost, SeedCurve, seconds, seed_lines
from bench.merge.reading import Array
from bench.merge.sections import Section
from bench.report.family import Family
from bench.statistics.interval import LEAST, LEAST_TIMES, half_width

# Places at which intervals hold together. More would widen each of them for next to nothing: a
# curve is much the same a twentieth of its length later.
PLACES = 10
# As in the pictures of losses: the first tenth of training would squash all that follows.
OPENING = 0.1


@dataclass(frozen=True)
class Ahead:
    """Paired differences in validation loss, arm less baseline, at each place."""

    arm: Arm
    x: Array  # (PLACES,) of the cost
    mean: Array  # (PLACES,)
    half: Array | None  # half the width of the band; None: too few seeds
    n: int  # pairs of seeds, or of studies


def courses(section: Section, family: Family, cost: Cost) -> list[Ahead]:
    """Of each comparison whose arms have curves: up to where the first of its runs ends.

    The band holds at all places and for all comparisons together (Bonferroni), at the level of the
    family.
    """
    base = seed_lines(family.baseline, cost)
    found = []
    for comparison in family.comparisons:
        new = seed_lines(comparison.arm, cost)
        pairs = {seed: (new[seed], base[seed]) for seed in sorted(new.keys() & base.keys())}
        if pairs and (course := _course(comparison.arm, pairs, family.alpha / PLACES, cost)):
            found.append(course)
    return found


def _course(
    arm: Arm, pairs: Mapping[int, tuple[SeedCurve, SeedCurve]], alpha: float, cost: Cost
) -> Ahead | None:
    lines = [line for pair in pairs.values() for line in pair]
    begin, end = max(float(line.x[0]) for line in lines), min(float(line.x[-1]) for line in lines)
    begin = max(begin, OPENING * end)
    if begin >= end:
        return None
    x = np.linspace(begin, end, PLACES)
    by_unit: dict[int, list[Array]] = defaultdict(list)  # what varies: a seed, or a study
    for seed, (new, base) in pairs.items():
        difference = np.interp(x, new.x, new.y) - np.interp(x, base.x, base.y)
        by_unit[arm.study_of.get(seed, seed)].append(difference)
    differences = np.array([np.mean(each, axis=0) for each in by_unit.values()])
    least = LEAST_TIMES if cost is seconds else LEAST
    half, n = None, len(differences)
    if n >= least:
        half = half_width(1.0, n, 1 - alpha) * differences.std(axis=0, ddof=1)
    return Ahead(arm, x, differences.mean(axis=0), half, n)
