"""A claim about one arm and a number, in sentences."""

from collections.abc import Callable, Iterator

from bench.report.family import Comparison, Family
from bench.report.fixed import by_known_deviation, seeds_that_decide
from bench.report.page.answer import decimals_of, write_interval, write_mean
from bench.report.words import claimed_words, percent
from bench.statistics.text import counted, fixed, sentences
from bench.statistics.verdict import Verdict

SAID = {
    Verdict.BETTER: "shown",
    Verdict.WORSE: "not so: it lies over it",
    Verdict.UNDECIDED: "not shown",
    Verdict.IDENTICAL: "so to the last digit, at every seed",
}


def fixed_lead(family: Family, rests_on: Callable[[Comparison], str]) -> str:
    """For example "Final validation loss of a + b is at most 3.28: shown, on 5 of 5 seeds."."""
    (found,) = family.comparisons
    metric = claimed_words(family)
    what = f"{metric[:1].upper()}{metric[1:]} of {found.arm.label} is at most"
    said = SAID.get(found.verdict, found.verdict.value)
    why = f" ({found.judgement.why})" if found.judgement.why else ""
    claim = f"{what} {family.baseline.label}: {said}{why}, {rests_on(found)}."
    return sentences(family.note, claim)


def fixed_points(family: Family) -> Iterator[str]:
    (found,) = family.comparisons
    contrast, decimals = found.contrast, decimals_of(family)
    if contrast.mean is None or family.fixed is None:
        return
    mean = contrast.mean + family.fixed.at_most
    told = f"Its mean is {fixed(mean, decimals(mean))}: {write_mean(contrast, decimals)} from there"
    if contrast.interval is not None:
        level = percent(1 - family.alpha / 2)
        told += f" ({write_interval(contrast, decimals)}, either end at {level})"
    yield f"{told}; up to {100 * found.most_bad_runs:.0f} % bad runs not ruled out."
    if found.verdict is not Verdict.BETTER and (n := seeds_that_decide(family)):
        yield f"At this mean and deviation, {counted(n, 'seed')} would show it."
    if known := by_known_deviation(family):
        is_shown = "shown" if known.is_under else "not shown"
        line = (
            f"By the deviation of a run that the claim knows, {known.sd:g}: (target - mean) · √n "
            f"is {known.score:.4g}, and {known.needed:.4g} is needed: {is_shown}"
        )
        more = known.runs_needed
        by_more = f"; {counted(more, 'run')} would" if more and not known.is_under else ""
        yield f"{line}{by_more}."
