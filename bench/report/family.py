"""The claim of a section: every arm against the baseline, tested together."""

from dataclasses import dataclass

from bench.report.asked import Asked
from bench.report.columns import HIGHER_IS_BETTER, LOSSES, TIMINGS
from bench.report.sections import Arm, Section
from bench.report.statistics.contrast import BySeed, Contrast, correlation, paired
from bench.report.statistics.ladder import Ladder, make_ladder
from bench.report.statistics.power import SeedsNeeded, seeds_to_decide
from bench.report.statistics.verdict import (
    DECIDED,
    LEAST_SEEDS_LOSS,
    LEAST_SEEDS_OTHER,
    Diverged,
    Judgement,
    Verdict,
    alpha_of_look,
    judge,
)

EXPLORATORY_METRIC = "val_loss_final"
TIME = "train_time_s"  # what the second ladder climbs, in ratios


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline."""

    arm: Arm
    contrast: Contrast  # arm - baseline, in the metric's unit
    judgement: Judgement
    correlation: float | None  # of the pairs
    diverged: Diverged
    seeds_needed: SeedsNeeded | None  # to decide at the margin; None: decided, or not known

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def is_decided(self) -> bool:
        return self.verdict in DECIDED


@dataclass(frozen=True)
class Family:
    """All comparisons of a section, with intervals that hold together at 1 - α of the look."""

    baseline: Arm
    metric: str  # a column of runs.csv
    margin: float | None  # in the metric's unit; None where nothing was claimed
    exploratory: bool  # no claim was made before the run
    look: int  # which look at these results it is, from 1
    alpha: float  # of each comparison: that of the look, over the number of comparisons
    comparisons: tuple[Comparison, ...]  # in the order of the plans
    ladders: tuple[Ladder, ...]  # of the metric; of a time, in logarithms of ratios
    time_ladders: tuple[Ladder, ...]  # of training time; none where that is the metric

    @property
    def confidence(self) -> float:
        """Of each interval alone."""
        return 1 - self.alpha

    @property
    def is_tested(self) -> bool:
        """Whether any verdict was looked for: otherwise this look spends nothing."""
        untested = (Verdict.TOO_FEW, Verdict.NOT_AVAILABLE, Verdict.IDENTICAL)
        return any(comparison.verdict not in untested for comparison in self.comparisons)


def baseline_of(section: Section, asked: Asked) -> Arm | None:
    """The claim's baseline among a section's arms, or the first arm where nothing was claimed.

    None if the section has no such arm, or several of the same names with other settings.
    """
    if asked.claim is None:
        return section.arms[0] if section.arms else None
    named = (asked.claim.baseline.model, asked.claim.baseline.optimizer)
    found = [arm for arm in section.arms if (arm.model, arm.optimizer) == named]
    return found[0] if len(found) == 1 else None


def make_family(section: Section, asked: Asked, look: int) -> Family | None:
    """The comparisons of a section at its `look`-th look; None without a baseline.

    Intervals are Bonferroni's: α is shared out among all arms that were planned beside the
    baseline, also those that have no figure yet.
    """
    baseline = baseline_of(section, asked)
    others = [arm for arm in section.arms if arm is not baseline]
    if baseline is None or not others:
        return None
    claim = asked.claim
    metric = claim.metric if claim else EXPLORATORY_METRIC
    margin = claim.margin if claim else None
    alpha = alpha_of_look(look) / len(others)
    next_alpha = alpha_of_look(look + 1) / len(others)
    return Family(
        baseline=baseline,
        metric=metric,
        margin=margin,
        exploratory=claim is None,
        look=look,
        alpha=alpha,
        comparisons=tuple(
            _compare(arm, baseline, metric, margin, alpha, next_alpha) for arm in others
        ),
        ladders=_ladders(section, baseline, metric, confidence=1 - alpha),
        time_ladders=()
        if metric == TIME
        else _ladders(section, baseline, TIME, confidence=1 - alpha),
    )


def least_seeds(metric: str) -> int:
    """The pairs that a verdict on a metric needs."""
    return LEAST_SEEDS_LOSS if metric in LOSSES else LEAST_SEEDS_OTHER


def _compare(
    arm: Arm, baseline: Arm, metric: str, margin: float | None, alpha: float, next_alpha: float
) -> Comparison:
    new, base = arm.spread(metric).by_seed, baseline.spread(metric).by_seed
    contrast = paired(new, base, relative=False, confidence=1 - alpha)
    diverged = diverged_seeds(arm, baseline)
    judgement = judge(
        contrast,
        margin=margin,
        lower_is_better=metric not in HIGHER_IS_BETTER,
        least_seeds=least_seeds(metric),
        diverged=diverged,
    )
    needed = None
    uneven = diverged.more_in_new or diverged.more_in_base  # more seeds alone would not decide
    is_open = judgement.verdict in (Verdict.UNDECIDED, Verdict.TOO_FEW) and not uneven
    if is_open and margin is not None and contrast.interval is not None and contrast.sd:
        # What comes next is another look, with an α of its own.
        least = max(contrast.n + 1, least_seeds(metric))
        needed = seeds_to_decide(contrast.sd, contrast.n, margin, next_alpha, least)
    return Comparison(arm, contrast, judgement, correlation(new, base), diverged, needed)


def diverged_seeds(arm: Arm, baseline: Arm) -> Diverged:
    """Seeds that diverged and have no ok cell, by what the other arm did with them."""
    new, base = _diverged(arm), _diverged(baseline)
    new_ok, base_ok = set(arm.by_seed), set(baseline.by_seed)
    return Diverged(
        new_alone=len(new & base_ok),
        base_alone=len(base & new_ok),
        both=len(new & base),
        new_unpaired=len(new - base - base_ok),
        base_unpaired=len(base - new - new_ok),
    )


def _diverged(arm: Arm) -> set[int]:
    return {cell.seed for cell in arm.cells if cell.status == "diverged"} - set(arm.by_seed)


def _ladders(
    section: Section, baseline: Arm, metric: str, *, confidence: float
) -> tuple[Ladder, ...]:
    """One to each arm that differs from the baseline in both; none where names are not unique."""
    relative = metric in TIMINGS
    figures: dict[tuple[str, str], BySeed] = {
        (arm.model, arm.optimizer): _positive(arm.spread(metric).by_seed, relative)
        for arm in section.arms
    }
    if len(figures) < len(section.arms):
        return ()
    base = (baseline.model, baseline.optimizer)
    tops = [top for top in figures if top[0] != base[0] and top[1] != base[1]]
    made = (
        make_ladder(figures, base, top, relative=relative, confidence=confidence) for top in tops
    )
    return tuple(ladder for ladder in made if ladder is not None)


def _positive(figures: BySeed, needed: bool) -> BySeed:
    """Without figures of 0, where logarithms are taken: a time of 0 was not measured."""
    return {seed: figure for seed, figure in figures.items() if figure > 0 or not needed}
