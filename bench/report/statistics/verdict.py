"""One contrast -> better, worse, equivalent or undecided, and why."""

from dataclasses import dataclass
from enum import StrEnum

from scipy.stats import binomtest

from bench.report.statistics.contrast import Contrast

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


@dataclass(frozen=True)
class Diverged:
    """Seeds at which training diverged."""

    new_alone: int  # where the other arm finished
    base_alone: int
    both: int = 0
    new_unpaired: int = 0  # where it is not known how the other arm would have ended
    base_unpaired: int = 0

    def __bool__(self) -> bool:
        return bool(self.new or self.base)

    @property
    def new(self) -> int:
        return self.new_alone + self.both + self.new_unpaired

    @property
    def base(self) -> int:
        return self.base_alone + self.both + self.base_unpaired

    @property
    def more_in_new(self) -> bool:
        """Among pairs, or in all."""
        return self.new_alone > self.base_alone or self.new > self.base

    @property
    def more_in_base(self) -> bool:
        return self.base_alone > self.new_alone or self.base > self.new

    @property
    def decides(self) -> bool:
        """Whether pairs are tested by their sign: a mean of the others would be too kind to one."""
        return self.new_alone != self.base_alone


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
    *,
    margin: float | None,
    lower_is_better: bool,
    least_seeds: int,
    diverged: Diverged = Diverged(0, 0),
) -> Judgement:
    """Better or worse if the interval excludes 0, equivalent if it lies within ± margin.

    `margin` is in the contrast's own scale; None: nothing is equivalent. A diverged seed ranks
    below every finished one: with unequal numbers of them the pairs are tested by their sign, and
    whoever diverged more often is never the better one, nor as good.
    """
    if diverged.decides:
        found = _by_sign(contrast, diverged, lower_is_better, least_seeds)
    else:
        found = _by_interval(contrast, margin, lower_is_better, least_seeds)
    kind_to_new = found.verdict is not Verdict.WORSE and diverged.more_in_new
    kind_to_base = found.verdict is not Verdict.BETTER and diverged.more_in_base
    if found.verdict in DECIDED and (kind_to_new or kind_to_base):
        why = f"diverged: {diverged.new} of this arm's seeds, {diverged.base} of the baseline's"
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


def _by_sign(
    contrast: Contrast, diverged: Diverged, lower_is_better: bool, least_seeds: int
) -> Judgement:
    """The sign test over all pairs of which one at least finished; ties are no pair."""
    won = sum((value < 0) is lower_is_better for value in contrast.values if value)
    lost = sum((value > 0) is lower_is_better for value in contrast.values if value)
    won, lost = won + diverged.base_alone, lost + diverged.new_alone
    more = diverged.new_alone > diverged.base_alone
    whose = "this arm's" if more else "the baseline's"
    why = f"{max(diverged.new_alone, diverged.base_alone)} of {whose} seeds diverged alone"
    if won + lost < least_seeds:
        pairs = f"{won + lost} pairs that are no tie; a verdict needs {least_seeds}"
        return Judgement(Verdict.TOO_FEW, f"{why}; {pairs}")
    significant = binomtest(won, won + lost).pvalue <= 1 - contrast.confidence
    if not significant:
        return Judgement(Verdict.UNDECIDED, why)
    verdict = Verdict.BETTER if won > lost else Verdict.WORSE
    return Judgement(verdict, f"{why}; by the sign of {won + lost} pairs")


def _too_few(n: int, least: int) -> str:
    return f"{n} {'pair' if n == 1 else 'pairs'} of seeds; a verdict needs {least}"
