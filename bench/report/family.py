"""The claim of a section: every arm against the baseline, tested together."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench.matrix.claim_forms import FixedClaim, Terms
from bench.merge.arms import Arm, fewest_seeds
from bench.merge.asked import Asked
from bench.merge.from_curves import in_unit_of, with_curves
from bench.merge.sections import Section
from bench.records.columns import OF_CURVES, TIMED, TO_TARGET, is_relative
from bench.records.kinds import FIGURE, LOSS, Column
from bench.records.programs import Setup
from bench.report.machines import LEAST_MACHINES, MACHINE, is_of_machines, over_machines
from bench.report.pairs import measured, over_seeds
from bench.statistics.contrast import Contrast
from bench.statistics.ends import End, Ends
from bench.statistics.ladder import Ladder, make_ladder
from bench.statistics.pooled import LEAST_SEEDS as LEAST_SEEDS_POOLED
from bench.statistics.pooled import Pooled, pooled
from bench.statistics.power import SeedsNeeded, seeds_to_decide
from bench.statistics.text import sentences
from bench.statistics.verdict import (
    DECIDED,
    LEAST_SEEDS_LOSS,
    LEAST_SEEDS_OTHER,
    Judgement,
    Verdict,
    alpha_of_look,
    judge,
    most_bad_runs,
)

TIME = "train_time_s"  # of the second ladder, in ratios
# Losses that all configurations have after as many steps, and what says the same at equal cost.
AT_EQUAL_STEPS = (
    *("val_loss_final", "val_loss_tail", "perplexity", "bits_per_char", "bits_per_byte"),
)
EQUAL_COST = ("val_loss_at_equal_flops", "val_loss_at_equal_time")
AFTERWARDS = (
    "These runs were made elsewhere and imported, and what is claimed of them was claimed "
    "afterwards: what follows is exploratory."
)
ELSEWHERE = "see the claim"  # of a contrast over fewer seeds than its verdict
TUNED_ONCE = "tuned once: how much tuning errs is in no interval; tune.studies of 5 tell it"


@dataclass(frozen=True)
class Comparison:
    """One arm against the baseline."""

    arm: Arm
    contrast: Contrast  # arm - baseline, in the metric's unit
    judgement: Judgement
    correlation: float | None  # of the pairs; None without them
    ends: Ends  # of what the verdict counts: seeds, studies or machines
    runs: Ends  # of all seeds or studies, whatever the verdict counts
    without_figure: int  # that finished in both and lack it: their times were disturbed
    repeated: int  # seeds that are left out since they drew what another one drew
    seeds_needed: SeedsNeeded | None  # to decide at the margin; None: decided, or not known

    @property
    def verdict(self) -> Verdict:
        return self.judgement.verdict

    @property
    def told(self) -> str:
        """The verdict in words, with the test that it is by where that is not the interval's."""
        if self.ends.all_finished or not self.is_decided:
            return self.verdict.value
        return f"{self.verdict} by {'sign' if self.contrast.is_paired else 'rank'}"

    @property
    def n_planned(self) -> int:
        """What was planned for either arm, as the verdict counts it."""
        return sum(self.ends.count.values()) + self.repeated

    def verdict_on(self, contrast: Contrast) -> str:
        """The verdict in words, for a contrast of the same arms if it is over the same seeds."""
        same = contrast.seeds == self.contrast.seeds
        return self.told if same else ELSEWHERE

    @property
    def is_decided(self) -> bool:
        return self.verdict in DECIDED

    @property
    def most_bad_runs(self) -> float:
        """The rate of bad runs that the arm's finished seeds still allow, at 95 %."""
        finished = sum(n for (new, _), n in self.runs.count.items() if new is End.FINISHED)
        return most_bad_runs(finished, self.runs.failed_new)


@dataclass(frozen=True)
class Pool:
    """The variance of all arms, or why there is none."""

    variance: Pooled | None
    why_not: str


@dataclass(frozen=True)
class Family:
    """All comparisons of a section, with intervals that hold together at 1 - α of the look."""

    baseline: Arm
    metric: str  # a column of runs.csv, or what a program declares
    setup: Setup  # the section's
    at: str  # at what a figure of curves is taken, in words; else empty
    margin: float | None  # as claimed: in the metric's unit, or a share; None: nothing claimed
    asked: tuple[float | str, ...]  # what the claim says beside its margin
    claims: int  # that are tested together
    pooled: Pool | None  # the variance of all arms, where the claim asks for one
    exploratory: bool  # no claim was made before the run, or none that holds
    note: str  # why none holds, where that is not plain
    look: int  # which look at these results it is, from 1
    alpha: float  # of each comparison: that of the look, over the number of comparisons
    comparisons: tuple[Comparison, ...]  # in the order of the plans
    ladders: tuple[Ladder, ...]  # of the metric, on the scale of its contrasts
    time_ladders: tuple[Ladder, ...]  # the same of training time; none where that is the metric
    fixed: FixedClaim | None = None  # one arm is compared with a number, in the baseline's place

    @property
    def column(self) -> Column:
        """What the metric is."""
        return self.setup.columns[self.metric]

    @property
    def relative(self) -> bool:
        """Whether contrasts are logarithms of ratios."""
        return is_relative(self.metric, self.column)

    @property
    def limit(self) -> float | None:
        """The margin on the scale of a contrast."""
        return _limit(self.margin, self.relative)

    @property
    def unit(self) -> str:
        """What its verdicts count: seeds, studies of tuning, or machines."""
        return self.comparisons[0].contrast.unit if self.comparisons else self.baseline.unit

    @property
    def confidence(self) -> float:
        """Of each interval alone."""
        return 1 - self.alpha

    @property
    def is_tested(self) -> bool:
        """Whether any verdict was looked for: otherwise this look spends nothing."""
        return _any_tested(self.comparisons)


def _limit(margin: float | None, relative: bool) -> float | None:
    """A share of 0.05 reaches from 1 / 1.05 to 1.05."""
    return margin if margin is None or not relative else math.log1p(margin)


def _any_tested(comparisons: Iterable[Comparison]) -> bool:
    untested = (Verdict.TOO_FEW, Verdict.NOT_AVAILABLE, Verdict.IDENTICAL)
    return any(comparison.verdict not in untested for comparison in comparisons)


def baseline_of(section: Section, asked: Asked) -> Arm | None:
    """The claim's baseline among a section's arms, or the first arm where nothing was claimed.

    None if the section has no such arm, or several of the same names with other settings.
    """
    if asked.claim is None:
        return section.arms[0] if section.arms else None
    named = (asked.claim.baseline.model, asked.claim.baseline.optimizer)
    found = [arm for arm in section.arms if named in arm.names]
    return found[0] if len(found) == 1 else None


def tuned_part(section: Section) -> Section:
    """A section with its tuned arms alone."""
    return replace(section, arms=tuple(arm for arm in section.arms if arm.untuned))


def family_at_equal_cost(section: Section, asked: Asked, first: Family) -> Family | None:
    """The comparisons of a claim about a loss at equal steps, at equal cost: a description.

    At equal operations, which no load on the machine changes; where these are not known, at equal
    training time. None where such a thing is claimed, or of a figure that no curve has.
    """
    claimed = {terms.metric for terms in asked.claims if terms}
    if first.metric not in AT_EQUAL_STEPS or claimed & {*EQUAL_COST}:
        return None
    for metric in EQUAL_COST:
        terms = Terms.model_construct(metric=metric, margin=first.margin)
        at_cost = in_unit_of(first.metric, with_curves(section, [terms]), metric)
        found = make_family(at_cost, asked, first.look, terms)
        if found and any(each.contrast.mean is not None for each in found.comparisons):
            return replace(found, exploratory=True)
    return None


def make_family(
    section: Section, asked: Asked, look: int, terms: Terms | None = None
) -> Family | None:
    """The comparisons of a section at its `look`-th look; None without a baseline, or the metric.

    `terms`: of which claim, where there are several; the first by default. Intervals are
    Bonferroni's: α is shared out among all arms that were planned beside the baseline, also those
    that have no figure yet, and among claims.
    """
    terms = terms or asked.claim
    claims = len(asked.claims)
    if section.is_tuned:  # what was tuned is judged as it was tuned
        section = tuned_part(section)
    baseline = baseline_of(section, asked)
    others = [arm for arm in section.arms if arm is not baseline]
    if baseline is None or not others:
        return None
    metric = terms.metric if terms else section.main_metric
    margin = terms.margin if terms else None
    if not has_metric(section, metric):
        return None
    column = section.setup.columns[metric]
    relative = is_relative(metric, column)
    limit = _limit(margin, relative)
    compared = (len(others) + section.dropped_arms) * claims
    alpha = alpha_of_look(look) / compared
    pool = _pool(section, asked, metric, relative)
    found = [_compare(section, arm, baseline, metric, limit, alpha, pool) for arm in others]
    # What comes next is another look, with an α of its own; a look that tested nothing is none.
    next_alpha = alpha_of_look(look + 1) / compared if _any_tested(found) else alpha
    least = least_seeds(column, pool)
    needed = [_seeds_needed(each, least, limit, next_alpha) for each in found]
    times = () if metric == TIME else _ladders(section, baseline, TIME, confidence=1 - alpha)
    return Family(
        baseline=baseline,
        metric=metric,
        setup=section.setup,
        at=section.claimed[metric].words if metric in section.claimed else "",
        margin=margin,
        asked=_asked(terms, pool),
        claims=claims,
        pooled=pool,
        exploratory=asked.claim is None or section.is_imported,
        note=sentences(asked.note, AFTERWARDS if section.is_imported else ""),
        look=look,
        alpha=alpha,
        comparisons=tuple(
            replace(each, seeds_needed=seeds) for each, seeds in zip(found, needed, strict=True)
        ),
        ladders=_ladders(section, baseline, metric, confidence=1 - alpha),
        time_ladders=times,
    )


def _asked(terms: Terms | None, pool: Pool | None) -> tuple[float | str, ...]:
    """What a claim says beside its margin: at what a figure of curves is taken, and by what."""
    how = ("pooled",) if pool else ()
    if terms is None or terms.metric not in OF_CURVES:
        return how
    target = terms.target if terms.metric in TO_TARGET else None
    return tuple(each for each in (terms.tail, terms.budget, target, *how) if each is not None)


def _pool(section: Section, asked: Asked, metric: str, relative: bool) -> Pool | None:
    """One variance for all arms; None where the claim does not ask for it."""
    if asked.claim is None or asked.claim.variance != "pooled":
        return None
    if is_of_machines(section, metric):
        return Pool(None, "what is of several machines has no variance of all configurations")
    figures = [measured(arm.spread(metric).by_seed, relative).values() for arm in section.arms]
    return Pool(*pooled([[math.log(x) if relative else x for x in arm] for arm in figures]))


def has_metric(section: Section, metric: str) -> bool:
    """Whether verdicts on it may be looked for: another program's is none, nor what none read."""
    column = section.setup.columns.get(metric)
    return column is not None and (column.kind == LOSS or bool(section.values(metric)))


def least_seeds(column: Column, pool: Pool | None = None) -> int:
    """The pairs that a verdict on a figure needs; without pairs, the runs of either arm."""
    if pool is not None:
        return LEAST_SEEDS_POOLED
    return LEAST_SEEDS_LOSS if column.kind == LOSS else LEAST_SEEDS_OTHER


def _compare(
    section: Section,
    arm: Arm,
    baseline: Arm,
    metric: str,
    limit: float | None,
    alpha: float,
    pool: Pool | None,
) -> Comparison:
    column = section.setup.columns[metric]
    relative = is_relative(metric, column)
    of_machines = is_of_machines(section, metric)
    compared = over_machines if of_machines else over_seeds
    found = compared(section, arm, baseline, metric, 1 - alpha)
    contrast = replace(found.contrast, pooled=pool.variance if pool else None)
    judgement = judge(
        contrast,
        found.ends,
        margin=limit,
        lower_is_better=not column.more_is_better,
        least_seeds=LEAST_MACHINES if of_machines else least_seeds(column, pool),
        varies=not (relative and column.kind == FIGURE),
    )
    if found.without_ratio:
        judgement = Judgement(Verdict.NOT_AVAILABLE, "a figure of 0 has no ratio")
    if why := _why_not(section, metric, pool, found.ends):
        judgement = Judgement(Verdict.NOT_AVAILABLE, why)
    if arm.untuned and not arm.study_of and not relative:
        judgement = Judgement(Verdict.TOO_FEW, TUNED_ONCE)
    return Comparison(
        arm,
        contrast,
        judgement,
        found.correlation,
        found.ends,
        found.runs,
        found.without_figure,
        found.repeated,
        seeds_needed=None,
    )


def _why_not(section: Section, metric: str, pool: Pool | None, ends: Ends) -> str:
    """Why no verdict on a figure of a section holds, whatever its seeds say; empty: it may."""
    if metric in section.claimed and (why := section.claimed[metric].why_not):
        return why
    if pool and pool.why_not and ends.all_finished:
        return pool.why_not
    if is_of_machines(section, metric):
        return ""
    if metric in TIMED and not section.timing.clean:
        return "every seed was disturbed from outside"
    if not section.timing.has(metric):
        return "some runs told their times and others did not: these are not compared"
    return ""


def _seeds_needed(
    found: Comparison, least: int, limit: float | None, alpha: float
) -> SeedsNeeded | None:
    """Seeds that would decide at the margin; None where that is known, or more would not do."""
    contrast = found.contrast
    is_open = found.verdict in (Verdict.UNDECIDED, Verdict.TOO_FEW) and found.ends.all_finished
    of_machines = contrast.unit == MACHINE  # seeds would decide nothing
    if not is_open or of_machines or limit is None or contrast.interval is None or not contrast.sd:
        return None
    least = max(contrast.n + 1, least)
    return seeds_to_decide(contrast.sd, contrast.n, limit, alpha, least, contrast.freedom)


def _ladders(
    section: Section, baseline: Arm, metric: str, *, confidence: float
) -> tuple[Ladder, ...]:
    """One to each arm that differs from the baseline in both; none where names are not unique."""
    if is_of_machines(section, metric):
        return ()
    relative = is_relative(metric, section.setup.columns[metric])
    figures = {
        (arm.model, arm.optimizer): measured(arm.spread(metric).by_seed, relative)
        for arm in section.arms
    }
    if len(figures) < len(section.arms):
        return ()
    base = (baseline.model, baseline.optimizer)
    tops = [top for top in figures if top[0] != base[0] and top[1] != base[1]]
    fewest = fewest_seeds(metric, section.timing)
    made = (
        make_ladder(
            figures,
            base,
            top,
            relative=relative,
            confidence=confidence,
            least=fewest,
            pairs=section.setup.is_paired,
        )
        for top in tops
    )
    return tuple(ladder for ladder in made if ladder is not None)
