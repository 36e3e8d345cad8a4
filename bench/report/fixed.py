"""A claim that one arm's mean is at most so much: it is compared with a number, not with an arm."""

from collections import Counter

from bench.matrix.claim_forms import FixedClaim
from bench.merge.arms import Arm
from bench.merge.asked import Asked
from bench.merge.sections import Section
from bench.report.family import AFTERWARDS, Comparison, Family, least_seeds, tuned_part
from bench.report.pairs import how_it_ended
from bench.statistics.contrast import Contrast
from bench.statistics.ends import End, Ends
from bench.statistics.known import KnownDeviation, runs_needed
from bench.statistics.power import MOST_SEEDS
from bench.statistics.text import counted, sentences
from bench.statistics.verdict import Judgement, Verdict, alpha_of_look, judge


def fixed_family(section: Section, asked: Asked, claim: FixedClaim, look: int) -> Family | None:
    """The arm's figures, each less the target; None if there is no such arm, or several.

    Its interval is two-sided at 1 - 2α of the look, so that either side of it is one-sided at α.
    A seed that is missing counts against the claim, by its sign; with one that failed it is never
    shown, since a mean that leaves it out is not the arm's.
    """
    if section.is_tuned:
        section = tuned_part(section)
    found = [arm for arm in section.arms if (claim.arm.model, claim.arm.optimizer) in arm.names]
    if len(found) != 1 or claim.metric not in section.setup.columns:
        return None
    (arm,) = found
    alpha = 2 * alpha_of_look(look)
    column = section.setup.columns[claim.metric]
    return Family(
        baseline=_target(section, claim),
        metric=claim.metric,
        setup=section.setup,
        at="",
        margin=None,
        asked=(claim.at_most, *([claim.sd] if claim.sd else [])),
        claims=1,
        pooled=None,
        fixed=claim,
        exploratory=section.is_imported,
        note=sentences(asked.note, AFTERWARDS if section.is_imported else ""),
        look=look,
        alpha=alpha,
        comparisons=(_compare(arm, claim, alpha, least_seeds(column)),),
        ladders=(),
        time_ladders=(),
    )


def _target(section: Section, claim: FixedClaim) -> Arm:
    """What stands in the baseline's place."""
    name = f"{claim.at_most:g}"
    return Arm(f"at most {name}", "", "", name, (), (), 0, section.timing)


def _compare(arm: Arm, claim: FixedClaim, alpha: float, least: int) -> Comparison:
    figures = arm.spread(claim.metric).by_seed
    by_seed = {seed: value - claim.at_most for seed, value in figures.items()}
    contrast = Contrast(by_seed, relative=False, confidence=1 - alpha, scale=abs(claim.at_most))
    seeds = sorted({*arm.seeds} - arm.same_draw.keys())
    found = (how_it_ended(arm, figures, seed, claim.metric) for seed in seeds)
    ends = Ends(Counter((end, End.FINISHED) for end in found))
    judgement = judge(contrast, ends, margin=None, lower_is_better=True, least_seeds=least)
    if ends.failed_new and judgement.verdict is not Verdict.WORSE:
        judgement = Judgement(Verdict.UNDECIDED, f"{counted(ends.failed_new, 'seed')} failed")
    return Comparison(
        arm,
        contrast,
        judgement,
        correlation=None,
        ends=ends,
        runs=ends,
        without_figure=0,
        repeated=len(arm.same_draw),
        seeds_needed=None,
    )


def by_known_deviation(family: Family) -> KnownDeviation | None:
    """The test by the deviation that the claim knows; None without one, or where a seed failed."""
    claim, (found,) = family.fixed, family.comparisons
    if claim is None or claim.sd is None or found.contrast.mean is None:
        return None
    if not found.ends.all_finished:
        return None
    return KnownDeviation(-found.contrast.mean, found.contrast.n, claim.sd, family.alpha / 2)


def seeds_that_decide(family: Family) -> int | None:
    """How many seeds of this mean and deviation would show it; None: not known, or too many."""
    contrast = family.comparisons[0].contrast
    if contrast.mean is None or not contrast.sd:
        return None
    least = max(contrast.n + 1, least_seeds(family.column))
    return runs_needed(-contrast.mean, contrast.sd, family.alpha / 2, least, MOST_SEEDS)
