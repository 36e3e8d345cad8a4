"""The answer in tables: the claim, the ladder from baseline to the arm, what a target costs."""

import math
from collections.abc import Sequence
from itertools import compress

from bench.merge.asked import Asked
from bench.merge.disturbed import MARK, short_note
from bench.merge.sections import Section
from bench.records.columns import LOSSES, TIMINGS
from bench.report.family import Comparison, Family, least_seeds
from bench.report.page.content import Heading, Table, table
from bench.report.page.ends import most_bad
from bench.report.page.ladder_words import Step, steps_of
from bench.report.targets import ArmToTarget, target_of, to_target
from bench.statistics.contrast import Contrast
from bench.statistics.power import MOST_SEEDS, POWER, SeedsNeeded
from bench.statistics.target import ToTarget
from bench.statistics.text import (
    NOT_AVAILABLE,
    Decimals,
    of_count,
    of_loss,
    of_measure,
    sentences,
    write,
    write_signed,
)
from bench.statistics.verdict import ALPHA

MOST_TIMES = 1_000  # a ratio beyond which its digits say nothing: the interval of two seeds

METRIC_WORDS = {
    "val_loss_final": "final validation loss (nats per token)",
    "test_loss_final": "final test loss (nats per token)",
    "val_loss_best": "best validation loss (nats per token)",
    "perplexity": "perplexity",
    "train_time_s": "training time (s)",
}


def metric_words(metric: str) -> str:
    return METRIC_WORDS.get(metric, metric)


def decimals_of(family: Family) -> Decimals:
    """As many as losses have, or as the margin needs to be told from 0."""
    if family.metric not in LOSSES:
        return of_measure
    if not family.margin:
        return of_loss
    needed = 1 - math.floor(math.log10(family.margin))
    return lambda value: max(of_loss(value), needed)


def answer_tables(section: Section, family: Family | None, asked: Asked) -> tuple[Table, ...]:
    """The claim's, a ladder for each arm that differs in model and optimizer, the target's."""
    compared = (
        [_claim_table(section, family), *_ladder_tables(section, family, asked)] if family else []
    )
    return (*compared, *_target_tables(section, asked))


def percent(share: float) -> str:
    """A confidence: 0.95 -> 95 %, 0.99166 -> 99.17 %."""
    return f"{100 * share:.4g} %"


def write_mean(contrast: Contrast, decimals: Decimals) -> str:
    """A difference with its sign, or a ratio as a change: -0.0410, +140 %."""
    if contrast.mean is None:
        return NOT_AVAILABLE
    return _write(contrast, contrast.mean, decimals)


def write_interval(contrast: Contrast, decimals: Decimals) -> str:
    """For example "-0.0525 to -0.0401"."""
    interval = contrast.interval
    if interval is None:
        return NOT_AVAILABLE
    low, high = (_write(contrast, end, decimals) for end in (interval.low, interval.high))
    return f"{low} to {high}"


def _write(contrast: Contrast, value: float, decimals: Decimals) -> str:
    if contrast.relative and value > math.log(MOST_TIMES):
        return f"over {MOST_TIMES:,} times"
    if contrast.relative:
        return f"{write_signed(100 * contrast.in_unit(value), of_measure)} %"
    return write_signed(value, decimals)


def _claim_table(section: Section, family: Family) -> Table:
    decimals = decimals_of(family)
    headings = [
        Heading("arm"),
        Heading("verdict"),
        Heading("difference", number=True),
        Heading(f"interval ({percent(family.confidence)})", number=True),
        Heading("pairs of seeds", number=True),
        Heading("planned seeds", number=True),
        Heading("bad runs, at most (95 %)", number=True),
        Heading("correlation of pairs", number=True),
        Heading("seeds that would decide", number=True),
        Heading("remark"),
    ]
    rows = [
        [
            each.arm.label,
            each.told,
            write_mean(each.contrast, decimals),
            write_interval(each.contrast, decimals),
            str(each.contrast.n),
            str(each.n_planned),
            most_bad(each),
            NOT_AVAILABLE if each.correlation is None else f"{each.correlation:.2f}",
            "" if each.is_decided else _seeds(each.seeds_needed),
            each.judgement.why,
        ]
        for each in family.comparisons
    ]
    what = f"{metric_words(family.metric)} less that of {family.baseline.label}"
    claimed = "Every arm against the first (exploratory)" if family.exploratory else "The claim"
    told = [any(row[place] for row in rows) for place in range(len(headings))]
    return table(
        f"{claimed}: {what}",
        list(compress(headings, told)),  # nothing to remark, or to decide: no column for it
        [list(compress(row, told)) for row in rows],
        _claim_note(section, family),
    )


def _seeds(needed: SeedsNeeded | None) -> str:
    if needed is None:
        return NOT_AVAILABLE
    if needed.low is None:
        return f"over {MOST_SEEDS:,}"
    high = f"over {MOST_SEEDS:,}" if needed.high is None else f"{needed.high:,}"
    return f"{needed.low:,}" if needed.low == needed.high else f"{needed.low:,} to {high}"


def _claim_note(section: Section, family: Family) -> str:
    rules = (
        "Paired by seed; t intervals that hold together (Bonferroni) for "
        f"{len(family.comparisons)} {_comparisons(family.comparisons)}. This is look {family.look} "
        f"of those that looks.csv notes, tested at {ALPHA:g} / ({family.look} × {family.look + 1})."
    )
    verdicts = "Better or worse: the interval excludes 0."
    if family.margin is not None:
        verdicts += f" Equivalent: it lies within ± {family.margin:g}, the margin. Else undecided."
        verdicts += (
            f" Seeds that would decide: with a chance of {100 * POWER:.0f} %, if the true "
            "difference were the margin, over the range that the standard deviation may have."
        )
    few = f"A verdict needs {least_seeds(family.metric)} pairs."
    uneven = any(not each.ends.all_finished for each in family.comparisons)
    return sentences(
        rules,
        verdicts,
        BY_SIGN if uneven else "",
        few,
        BAD_RUNS,
        disturbed_note(section, family),
    )


BY_SIGN = (
    "Where a seed did not finish in both arms, seeds are tested by their sign, and what is missing "
    "counts against the verdict: for better, a seed that this arm failed or lacks is lost, one at "
    "which the baseline diverged is won. An arm that failed more often is never better."
)
BAD_RUNS = (
    "Bad runs, at most: the rate of failures, or of runs far worse than those seen, that so many "
    "finished seeds do not exclude."
)


def disturbed_note(section: Section, family: Family) -> str:
    """What is left out of a claim on a time."""
    return short_note(section.timing) if family.metric in TIMINGS else ""


def _comparisons(found: Sequence[Comparison]) -> str:
    return "comparison" if len(found) == 1 else "comparisons"


def _ladder_tables(section: Section, family: Family, asked: Asked) -> list[Table]:
    mark = MARK if not section.timing.clean else ""
    interval = Heading(f"interval ({percent(family.confidence)})", number=True)
    headings = [
        Heading("step"),
        Heading("what changes"),
        Heading(f"difference, {metric_words(family.metric)}", number=True),
        interval,
        Heading("verdict"),
        *([Heading(f"training time{mark}", number=True), interval] if family.time_ladders else []),
        Heading("seeds", number=True),
    ]
    return [
        table(
            f"Model or optimizer? From {family.baseline.label} to {steps[-1].to}",
            headings,
            [_ladder_row(step, family) for step in steps],
            sentences(LADDER_NOTE, short_note(section.timing)),
        )
        for steps in steps_of(section, family, asked)
    ]


LADDER_NOTE = (
    "Each step is taken seed by seed, over the seeds that all four arms have, with an interval of "
    "its own; optimizer, model and interaction sum to the whole difference. The verdicts are those "
    "of the claim; the interaction is not part of it. Training time is a ratio of geometric means, "
    "so its steps multiply."
)


def _ladder_row(step: Step, family: Family) -> list[str]:
    decimals = decimals_of(family)
    times = [step.time] if step.time else []
    return [
        step.name,
        step.what,
        write_mean(step.contrast, decimals),
        write_interval(step.contrast, decimals),
        step.verdict,
        *(written(contrast, of_measure) for contrast in times for written in WRITERS),
        str(step.contrast.n),
    ]


WRITERS = (write_mean, write_interval)

TARGET_NOTE = (
    "Reached: held at two successive evaluations, of which the first counts. Medians over seeds; a "
    "seed that missed it, or failed, counts as longer than any."
)


def _target_tables(section: Section, asked: Asked) -> list[Table]:
    target = target_of(section, asked)
    if target is None:
        return []
    mark = MARK if not section.timing.clean else ""
    headings = [
        Heading("arm"),
        Heading("seeds that reached it"),
        Heading("steps", number=True),
        Heading("tokens", number=True),
        Heading(f"training time (s){mark}", number=True),
    ]
    rows = [
        [
            each.arm.label,
            f"{each.steps.n_reached} of {len(each.steps.by_seed)}",
            _median(each.steps, of_count),
            _median(each.tokens, of_count),
            _median(each.seconds, of_measure) + _of_fewer(each),
        ]
        for each in to_target(section, target)
    ]
    claimed = asked.claim is not None and asked.claim.target is not None
    whose = "the claim's target" if claimed else "where the worst seed of the worst arm ends"
    caption = f"Until a validation loss of {write(target, of_loss)}, {whose}"
    return [table(caption, headings, rows, sentences(TARGET_NOTE, short_note(section.timing)))]


def _of_fewer(each: ArmToTarget) -> str:
    """For example " (2 of 3)": the seeds of undisturbed times, where these are fewer."""
    of_time = (each.seconds.n_reached, len(each.seconds.by_seed))
    if of_time == (each.steps.n_reached, len(each.steps.by_seed)) or not each.seconds.by_seed:
        return ""
    return " ({} of {})".format(*of_time)


def _median(found: ToTarget, decimals: Decimals) -> str:
    if not found.by_seed:
        return NOT_AVAILABLE
    return "not reached" if found.median is None else write(found.median, decimals)
