"""A claim about a loss at equal steps, told at equal cost as well: a gain may be gone there."""

from collections.abc import Iterator

from bench.report.family import Comparison, Family
from bench.report.page.answer import decimals_of, write_interval, write_mean
from bench.report.words import COST, percent
from bench.statistics.verdict import Verdict

APART = (Verdict.BETTER, Verdict.WORSE)
FEW = 3  # configurations that the first sentence tells one by one


def otherwise(first: Family, at_cost: Family, is_claimed: bool) -> str:
    """What the first sentence adds where the two disagree; else empty.

    They do where one of them says better or worse of a configuration and the other does not.
    `is_claimed`: the one at equal cost is a claim of its own.
    """
    found = list(_disagreeing(first, at_cost))
    if not found:
        return ""
    where = f"; {COST[at_cost.metric]}" + ("" if is_claimed else ", which was not claimed,")
    if len(found) > FEW:
        have = "have" if is_claimed else "would have"
        return f"{where} {len(found)} of these {have} another verdict"
    be = "is" if is_claimed else "would be"
    told = (f"{each.arm.label} {be} {_verdict(each, at_cost)}" for each in found)
    return f"{where} {', '.join(told)}"


def _disagreeing(first: Family, at_cost: Family) -> Iterator[Comparison]:
    said = {each.arm.arm_id: each.verdict for each in first.comparisons}
    for each in at_cost.comparisons:
        one = said[each.arm.arm_id]
        if one is not each.verdict and (one in APART or each.verdict in APART):
            yield each


def _verdict(each: Comparison, family: Family) -> str:
    """For example "undecided (0.0000, -0.0178 to +0.0178)"."""
    if each.contrast.interval is None:
        return f"{each.verdict}"
    decimals = decimals_of(family)
    figures = f"{write_mean(each.contrast, decimals)}, {write_interval(each.contrast, decimals)}"
    return f"{each.verdict} ({figures})"


def told_at_cost(at_cost: Family) -> str:
    """All configurations at equal cost, for a reader of the headline; few enough to be listed."""
    where = COST[at_cost.metric]
    told = (f"{each.arm.label} {_figures(each, at_cost)}" for each in at_cost.comparisons)
    level = f"{percent(at_cost.confidence)} intervals, not claimed"
    return f"{where[0].upper()}{where[1:]} ({at_cost.at}; {level}): {'; '.join(told)}."


def _figures(each: Comparison, family: Family) -> str:
    decimals = decimals_of(family)
    return f"{write_mean(each.contrast, decimals)} ({write_interval(each.contrast, decimals)})"
