"""One contrast -> better, worse, equivalent or undecided, and why."""

from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import beta, binomtest

from bench.statistics.contrast import Contrast
from bench.statistics.ends import Ends

ALPHA = 0.05  # of all comparisons of a family together

# With fewer seeds a standard deviation of losses is too badly known: that of four is uncertain by
# a factor of 0.6 to 3.7 (95 %). A time varies less from seed to seed than from hour to hour.
LEAST_SEEDS_LOSS = 5
LEAST_SEEDS_OTHER = 3


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
) -> Judgement:
    """Better or worse if the interval excludes 0, equivalent if it lies within ± margin.

    `margin` is in the contrast's own scale; None: nothing is equivalent. That is so where every
    seed that either arm brought to an end finished in both. Else all of these are tested by their
    sign, those without a figure against the verdict; and whoever failed more often is never the
    better one, nor as good. No failure is an advantage.
    """
    if ends.all_finished:
        return _by_interval(contrast, margin, lower_is_better, least_seeds)
    found = _by_sign(contrast, ends, lower_is_better, least_seeds)
    more = ends.failed_new - ends.failed_base
    if (found.verdict is Verdict.BETTER and more > 0) or (
        found.verdict is Verdict.WORSE and more < 0
    ):
        why = "the configuration with the better seeds failed more often"
        return Judgement(Verdict.UNDECIDED, why)
    return found


def _by_interval(
    contrast: Contrast, margin: float | None, lower_is_better: bool, least_seeds: int
) -> Judgement:
    if contrast.is_zero:
        return Judgement(Verdict.IDENTICAL, "equal to the last digit at every seed")
    if contrast.n < least_seeds:
        return Judgement(Verdict.TOO_FEW, _too_few(contrast.n, least_seeds))
    interval = contrast.interval
    if interval is None:
        return Judgement(Verdict.NOT_AVAILABLE, "the same difference at every seed: no variance")
    equivalent = margin is not None and interval.within(-margin, margin)
    if interval.excludes(0):
        better = (interval.high < 0) is lower_is_better
        why = "by less than the margin" if equivalent else ""
        return Judgement(Verdict.BETTER if better else Verdict.WORSE, why)
    if equivalent:
        return Judgement(Verdict.EQUIVALENT)
    return Judgement(Verdict.UNDECIDED)


def _by_sign(contrast: Contrast, ends: Ends, lower_is_better: bool, least_seeds: int) -> Judgement:
    """A sign test for each verdict over the seeds that are a pair for it; ties are none."""
    won = sum((value < 0) is lower_is_better for value in contrast.values if value)
    lost = sum((value > 0) is lower_is_better for value in contrast.values if value)
    level = (1 - contrast.confidence) / 2  # of each side
    if ends.ended < least_seeds:
        return Judgement(Verdict.TOO_FEW, _too_few(ends.ended, least_seeds))
    for verdict, (more_won, more_lost) in (
        (Verdict.BETTER, ends.against_better()),
        (Verdict.WORSE, ends.against_worse()),
    ):
        pairs = won + more_won, lost + more_lost
        hits = pairs[verdict is Verdict.WORSE]
        enough = sum(pairs) >= least_seeds
        if enough and binomtest(hits, sum(pairs), alternative="greater").pvalue <= level:
            return Judgement(verdict, f"{hits} of {sum(pairs)} seeds")
    return Judgement(Verdict.UNDECIDED, f"by the sign of {ends.rest} seeds")


def _too_few(n: int, least: int) -> str:
    return f"{n} {'pair' if n == 1 else 'pairs'} of seeds; a verdict needs {least}"


def most_bad_runs(finished: int, failed: int) -> float:
    """The largest rate of bad runs that so many seeds still allow, at 95 %; 1 without a seed.

    One-sided, by Clopper and Pearson (1934): 5 of 5 finished seeds allow up to 45 %.
    """
    return float(beta.ppf(1 - ALPHA, failed + 1, finished)) if finished else 1.0
