"""One contrast -> better, worse, equivalent or undecided, and why."""

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from scipy.stats import beta, binomtest, mannwhitneyu

from bench.statistics.contrast import Contrast
from bench.statistics.ends import FAILURES, LAST, End, Ends
from bench.statistics.text import counted, plural

ALPHA = 0.05  # of all comparisons of a family together

# With fewer seeds a standard deviation of losses is too badly known: that of four is uncertain by
# a factor of 0.6 to 3.7 (95 %). A time varies less from seed to seed than from hour to hour.
LEAST_SEEDS_LOSS = 5
LEAST_SEEDS_OTHER = 3

MOST_EXACT = 200  # runs of two arms whose ranks are tested exactly; more by a normal distribution


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"
    IDENTICAL = "identical"
    UNDECIDED = "undecided"
    TOO_FEW = "no verdict"
    NOT_AVAILABLE = "n/a"


DECIDED = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT, Verdict.IDENTICAL)


@dataclass(frozen=True)
class Judgement:
    verdict: Verdict
    why: str = ""  # what the interval alone does not show; a sentence without its full stop


def alpha_of_look(look: int) -> float:
    """α / k(k + 1) for the k-th look: over all looks these sum to α, however many there are.

    Raises:
        ValueError: for a look before the first.
    """
    if look < 1:
        raise ValueError(f"look {look}: the first is 1")
    return ALPHA / (look * (look + 1))


def judge(
    contrast: Contrast,
    ends: Ends,
    *,
    margin: float | None,
    lower_is_better: bool,
    least_seeds: int,
    varies: bool = True,
) -> Judgement:
    """Better or worse if the interval excludes 0, equivalent if it lies within ± margin.

    `margin` is in the contrast's own scale; None: nothing is equivalent. A figure that varies with
    no seed (a size) differs by what it differs by: it needs no variance. That is so where every
    seed that either arm brought to an end finished in both. Else all of these are tested by their
    sign, or by their rank where seeds make no pairs, those without a figure against the verdict;
    and whoever failed more often is never the better one, nor as good. No failure is an advantage.
    """
    if ends.all_finished:
        return _by_interval(contrast, margin, lower_is_better, least_seeds, varies)
    test = _by_sign if contrast.is_paired else _by_rank
    found = test(contrast, ends, lower_is_better, least_seeds)
    more = ends.failed_new - ends.failed_base
    if (found.verdict is Verdict.BETTER and more > 0) or (
        found.verdict is Verdict.WORSE and more < 0
    ):
        why = "the configuration with the better seeds failed more often"
        return Judgement(Verdict.UNDECIDED, why)
    return found


def _by_interval(
    contrast: Contrast,
    margin: float | None,
    lower_is_better: bool,
    least_seeds: int,
    varies: bool,
) -> Judgement:
    if contrast.is_zero:
        where = f"at every {contrast.unit}" if contrast.is_paired else "in all runs"
        return Judgement(Verdict.IDENTICAL, f"equal to the last digit {where}")
    if contrast.n < least_seeds:
        return _too_few(contrast, contrast.n, least_seeds)
    interval, constant = contrast.interval, ""
    if interval is None:
        paired = f"difference at every {contrast.unit}"
        constant = f"the same {paired if contrast.is_paired else 'figure in all runs of each'}"
        interval = contrast.range if contrast.is_constant and not varies else None
    if interval is None:
        return Judgement(Verdict.NOT_AVAILABLE, f"{constant}: no variance")
    equivalent = margin is not None and interval.within(-margin, margin)
    if interval.excludes(0):
        better = (interval.high < 0) is lower_is_better
        why = "by less than the margin" if equivalent else constant
        return Judgement(Verdict.BETTER if better else Verdict.WORSE, why)
    if equivalent:
        return Judgement(Verdict.EQUIVALENT, constant)
    return Judgement(Verdict.UNDECIDED)


def _by_sign(contrast: Contrast, ends: Ends, lower_is_better: bool, least_seeds: int) -> Judgement:
    """A sign test for each verdict over the seeds that are a pair for it; ties are none."""
    won = sum((value < 0) is lower_is_better for value in contrast.values if value)
    lost = sum((value > 0) is lower_is_better for value in contrast.values if value)
    level = (1 - contrast.confidence) / 2  # of each side
    if ends.ended < least_seeds:
        return _too_few(contrast, ends.ended, least_seeds)
    for verdict, (more_won, more_lost) in (
        (Verdict.BETTER, ends.against_better()),
        (Verdict.WORSE, ends.against_worse()),
    ):
        pairs = won + more_won, lost + more_lost
        hits = pairs[verdict is Verdict.WORSE]
        enough = sum(pairs) >= least_seeds
        if enough and binomtest(hits, sum(pairs), alternative="greater").pvalue <= level:
            return Judgement(verdict, f"{hits} of {sum(pairs)} {plural(contrast.unit)}")
    return Judgement(Verdict.UNDECIDED, f"by the sign of {counted(ends.rest, contrast.unit)}")


def _by_rank(contrast: Contrast, ends: Ends, lower_is_better: bool, least_seeds: int) -> Judgement:
    """A rank-sum test for each verdict over the runs of both arms; ties rank against it.

    For better, the runs that the new arm failed or lacks rank last, those that diverged or fell
    short of the target in the baseline as well, and those that it failed otherwise or lacks first.
    Worse is the mirror image.
    """
    sign = 1 if lower_is_better else -1
    new, negated = (list(group.values()) for group in contrast.groups)
    arms = [[sign * value for value in new], [-sign * value for value in negated]]
    ended = [sum(count[end] for end in (End.FINISHED, *FAILURES)) for count in ends.apart]
    if min(ended) < least_seeds:
        return _too_few(contrast, min(ended), least_seeds)
    known = list(zip(arms, ends.apart, strict=True))
    for verdict, (mine, theirs) in ((Verdict.BETTER, known), (Verdict.WORSE, known[::-1])):
        left = _with_rest(*mine, last={*End} - {End.FINISHED})
        right = _with_rest(*theirs, last=LAST)
        if min(len(left), len(right)) < least_seeds:  # what finished has no figure
            continue
        won, p_value = _rank_sum(left, right)
        if p_value <= (1 - contrast.confidence) / 2:  # of each side
            return Judgement(verdict, f"{won} of {len(left) * len(right)} comparisons of two runs")
    return Judgement(Verdict.UNDECIDED, f"by the rank of {sum(ends.apart[0].values())} runs each")


def _with_rest(figures: Sequence[float], count: Counter[End], last: Collection[End]) -> list[float]:
    """An arm's figures, lowest first in rank, and its other runs in the last place or the first."""
    rest = count - Counter({End.FINISHED: count[End.FINISHED]})
    return [*figures, *(math.inf if end in last else -math.inf for end in rest.elements())]


def _rank_sum(left: Sequence[float], right: Sequence[float]) -> tuple[int, float]:
    """(pairs of runs in which `left` is the lower one, one-sided p value), by Mann and Whitney.

    Of equal figures that of `right` counts as the lower one, so that there are no ties.
    """
    ranked = sorted([(value, True) for value in left] + [(value, False) for value in right])
    places: tuple[list[int], list[int]] = [], []
    for place, (_, is_left) in enumerate(ranked):
        places[is_left].append(place)
    method: Literal["exact", "asymptotic"]
    method = "exact" if len(ranked) <= MOST_EXACT else "asymptotic"
    found = mannwhitneyu(places[True], places[False], alternative="less", method=method)
    return len(left) * len(right) - round(found.statistic), float(found.pvalue)


def _too_few(contrast: Contrast, n: int, least: int) -> Judgement:
    if contrast.unit == "machine":
        what = counted(n, contrast.unit)
    elif contrast.is_paired:
        what = f"{counted(n, 'pair')} of {plural(contrast.unit)}"
    else:
        what = f"{counted(n, 'run')} of a configuration"
    return Judgement(Verdict.TOO_FEW, f"{what}; a verdict needs {least}")


def most_bad_runs(finished: int, failed: int) -> float:
    """The largest rate of bad runs that so many seeds still allow, at 95 %; 1 without a seed.

    One-sided, by Clopper and Pearson (1934): 5 of 5 finished seeds allow up to 45 %.
    """
    return float(beta.ppf(1 - ALPHA, failed + 1, finished)) if finished else 1.0
