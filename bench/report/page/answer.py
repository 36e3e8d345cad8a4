"""The answer in tables: the claim, whether it is the model or the optimizer, a target's cost."""

import math
from collections.abc import Sequence

from bench.merge.asked import Asked
from bench.merge.curves import seed_lines, steps
from bench.merge.sections import Section
from bench.records.kinds import LOSS
from bench.report.family import TIME, Comparison, Family, least_seeds
from bench.report.ladder import Step, bundle_words, steps_of
from bench.report.machines import LEAST_MACHINES, MACHINE, is_of_machines
from bench.report.page.content import Columns, Heading, Table, number, table
from bench.report.targets import ArmToTarget, target_of, to_target, worst_arm
from bench.report.words import claimed_words, count_words, margin_words, metric_words, percent
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder
from bench.statistics.power import MOST_SEEDS, POWER, SeedsNeeded
from bench.statistics.target import HELD, ToTarget
from bench.statistics.text import (
    NOT_AVAILABLE,
    Decimals,
    counted,
    of_count,
    of_loss,
    of_measure,
    plural,
    sentences,
    write,
    write_signed,
)
from bench.statistics.verdict import ALPHA

MOST_TIMES = 1_000  # a ratio beyond which its digits say nothing: the interval of two seeds

BY_SIGN = (
    "Where a seed did not finish in both configurations, seeds are tested by their sign, and what "
    "is missing counts against the verdict: for better, a seed that this configuration failed or "
    "lacks is lost, one at which the baseline diverged is won. A configuration that failed more "
    "often is never better."
)
BY_RANK = (
    "Where a run did not finish, runs are tested by their rank, and what is missing counts against "
    "the verdict: for better, a run that this configuration failed or lacks is last, as is one "
    "that diverged in the baseline; one that the baseline failed otherwise or lacks is first. A "
    "configuration that failed more often is never better."
)
FIXED_NOTE = (
    "The mean over seeds less the target, with a t interval, either end of it one-sided at "
    "{level}: interim look {look} of those that looks.csv notes. Better: it lies under the target; "
    "worse: over it. A seed that is missing counts against the claim, by its sign; with one that "
    "failed it is never shown. A verdict needs 5 seeds."
)
BAD_RUNS = (
    "Bad runs, at most: with so few finished seeds, the true rate of failures, or of runs far "
    "worse than those seen, may still be this high."
)
STUDIES = (
    "A study is a tuning of its own, with other points and seeds, and its figure the mean over the "
    "matrix's seeds that it was judged on. What is compared is an optimizer with its space and its "
    "budget: where these differ, so do the spaces."
)
LADDER_NOTE = (
    "Each contrast is taken seed by seed, over the seeds that all four configurations have, with "
    "an interval of its own; {sum}. The verdicts are those of the claim; the interaction is not "
    "part of it."
)
UNPAIRED_LADDER_NOTE = (
    "Each contrast is one of means over all runs of its configurations, with an interval of its "
    "own; {sum}. The verdicts are those of the claim; the interaction is not part of it."
)
SUM = "optimizer, model and interaction sum to the whole difference"
PRODUCT = "changes are of geometric means, and as ratios they multiply to the whole"
OF_TIME = "Training time is a ratio of geometric means, so its contrasts multiply."
TARGET_NOTE = (
    "Reached: held at two successive evaluations, of which the first counts. Medians over seeds; a "
    "seed that missed it, or failed, counts as longer than any."
)


def decimals_of(family: Family) -> Decimals:
    """As many as losses have, or as the margin needs to be told from 0."""
    if family.column.kind != LOSS:
        return of_measure
    if not family.margin:
        return of_loss
    needed = 1 - math.floor(math.log10(family.margin))
    return lambda value: max(of_loss(value), needed)


def answer_tables(
    section: Section, families: Sequence[Family | None], asked: Asked
) -> tuple[Table, ...]:
    """Each claim's, one for each arm that differs in model and optimizer, the target's."""
    first, claimed = families[0], [_claim_table(each) for each in families if each]
    ladders = _ladder_tables(section, first, asked) if first else []
    return (*claimed, *ladders, *_target_tables(section, asked))


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


def _claim_table(family: Family) -> Table:
    decimals = decimals_of(family)
    columns: Columns[Comparison] = [
        (Heading("configuration"), lambda each: each.arm.label),
        (Heading("verdict"), lambda each: each.told),
        (
            number("change" if family.relative else "difference"),
            lambda each: write_mean(each.contrast, decimals),
        ),
        (
            number(f"interval ({percent(family.confidence)})"),
            lambda each: write_interval(each.contrast, decimals),
        ),
        (
            number(_what_counts(family)),
            lambda each: count_words(each.contrast),
        ),
        (number(_planned_words(family)), lambda each: str(each.n_planned)),
        (number("bad runs, at most (95 %)"), lambda each: f"{100 * each.most_bad_runs:.0f} %"),
        (
            number("correlation of pairs"),
            lambda each: _correlation(each, family),
        ),
        (
            number(f"{plural(family.unit)} that would decide"),
            lambda each: "" if each.is_decided or family.fixed else _seeds(each.seeds_needed),
        ),
        (Heading("remark"), lambda each: each.judgement.why),
    ]
    # Nothing to remark, or to decide: no column for it.
    told = [column for column in columns if any(column[1](each) for each in family.comparisons)]
    all_of_them = "Every configuration against the first"
    claimed = all_of_them if family.margin is None else "The claim"
    claimed += " (exploratory)" if family.exploratory else ""
    metric = claimed_words(family)
    less = "against" if family.relative else "less"
    what = f"{metric} {less} that of {family.baseline.label}"
    if family.fixed:
        note = FIXED_NOTE.format(level=percent(family.alpha / 2), look=family.look)
        what = f"{metric} is at most {family.baseline.label}"
        return table(f"The claim: {what}", family.comparisons, told, note)
    return table(f"{claimed}: {what}", family.comparisons, told, _claim_note(family))


def _planned_words(family: Family) -> str:
    """No matrix plans machines."""
    units = plural(family.unit)
    return f"all {units}" if family.unit == MACHINE else f"planned {units}"


def _what_counts(family: Family) -> str:
    if family.fixed:
        return "seeds"
    if family.unit == MACHINE:
        return "machines with a value"
    return f"pairs of {plural(family.unit)}" if family.setup.is_paired else "runs"


def _correlation(each: Comparison, family: Family) -> str:
    """Empty where there is nothing to correlate, so that there is no such column."""
    if not family.setup.is_paired or family.fixed or family.unit == MACHINE:
        return ""
    return NOT_AVAILABLE if each.correlation is None else f"{each.correlation:.2f}"


def _seeds(needed: SeedsNeeded | None) -> str:
    if needed is None:
        return NOT_AVAILABLE
    if needed.low is None:
        return f"over {MOST_SEEDS:,}"
    high = f"over {MOST_SEEDS:,}" if needed.high is None else f"{needed.high:,}"
    return f"{needed.low:,}" if needed.low == needed.high else f"{needed.low:,} to {high}"


def _together(family: Family) -> str:
    """How many comparisons there are in all, as words: of all claims."""
    count = counted(len(family.comparisons), "comparison")
    return count if family.claims == 1 else f"{count} of each of {family.claims} claims"


def _claim_note(family: Family) -> str:
    is_paired = family.setup.is_paired
    of_machines = family.unit == MACHINE
    how = f"Paired by {family.unit}; t" if is_paired else "Runs are no pairs; Welch's t"
    how = "Each machine is one value, the mean of its own pairs; t" if of_machines else how
    rules = (
        f"{how} intervals that hold together (Bonferroni) for {_together(family)}. This is interim "
        f"look {family.look} of those that looks.csv notes, tested at {ALPHA:g} / "
        f"({family.look} × {family.look + 1})."
    )
    if family.pooled and (variance := family.pooled.variance):
        rules += (
            f" One standard deviation for all configurations, {math.sqrt(variance.variance):.3g} "
            f"({variance.freedom} degrees of freedom), as the claim asks."
        )
    verdicts = "Better or worse: the interval excludes 0."
    if family.margin is not None:
        margin = f"± {margin_words(family)}, the margin"
        if family.relative:
            margin += f" (a ratio of 1 / {1 + family.margin:g} to {1 + family.margin:g})"
        verdicts += f" Equivalent: it lies within {margin}. Else undecided."
    if family.margin is not None and not of_machines:
        verdicts += (
            f" {plural(family.unit).title()} that would decide: with a chance of "
            f"{100 * POWER:.0f} %, if the true difference were the margin, over the range that the "
            "standard deviation may have."
        )
    needed = least_seeds(family.column, family.pooled)
    few = f"A verdict needs {needed} {'pairs' if is_paired else 'runs of each'}."
    few = f"A verdict needs {LEAST_MACHINES} machines." if of_machines else few
    uneven = any(not each.ends.all_finished for each in family.comparisons)
    how_tuned = STUDIES if family.unit == "study" else ""
    missing = (BY_SIGN if is_paired else BY_RANK) * uneven
    return sentences(rules, how_tuned, verdicts, missing, few, BAD_RUNS)


def _ladder_tables(section: Section, family: Family, asked: Asked) -> list[Table]:
    times = family.time_ladders or (None,) * len(family.ladders)
    both = zip(family.ladders, times, strict=True)
    return [_ladder_table(section, family, asked, ladder, timed) for ladder, timed in both]


def _ladder_table(
    section: Section, family: Family, asked: Asked, ladder: Ladder, times: Ladder | None
) -> Table:
    decimals = decimals_of(family)
    interval = number(f"interval ({percent(family.confidence)})")
    steps = steps_of(ladder, family, bundle_words(ladder, section, asked))
    timed = {step.name: step.contrast for step in steps_of(times, family)} if times else {}
    of_time: Columns[Step] = [
        (
            number(f"training time{section.timing.mark(TIME)}"),
            lambda step: write_mean(timed[step.name], of_measure),
        ),
        (interval, lambda step: write_interval(timed[step.name], of_measure)),
    ]
    what = "change" if family.relative else "difference"
    columns: Columns[Step] = [
        (Heading("contrast"), lambda step: step.name),
        (Heading("what changes"), lambda step: step.how),
        (
            number(f"{what}, {metric_words(family.setup, family.metric)}"),
            lambda step: write_mean(step.contrast, decimals),
        ),
        (interval, lambda step: write_interval(step.contrast, decimals)),
        (Heading("verdict"), lambda step: step.verdict),
        *(of_time if times else ()),
        (
            number(plural(family.unit) if family.setup.is_paired else "runs"),
            lambda step: count_words(step.contrast),
        ),
    ]
    top = f"{ladder.model} + {ladder.optimizer}"
    caption = f"Model or optimizer? From {family.baseline.label} to {top}"
    note = LADDER_NOTE if family.setup.is_paired else UNPAIRED_LADDER_NOTE
    told = note.format(sum=PRODUCT if family.relative else SUM)
    return table(caption, steps, columns, sentences(told, OF_TIME if times else ""))


def _target_tables(section: Section, asked: Asked) -> list[Table]:
    target = target_of(section, asked)
    lengths = [len(line.x) for arm in section.arms for line in seed_lines(arm, steps).values()]
    if target is None or (section.setup.program and max(lengths, default=0) < HELD):
        return []
    seconds: Columns[ArmToTarget] = [
        (
            number(f"training time (s){section.timing.mark(TIME)}"),
            lambda each: _median(each.seconds, of_measure) + _of_fewer(each),
        )
    ]
    columns: Columns[ArmToTarget] = [
        (Heading("configuration"), lambda each: each.arm.label),
        (
            Heading("seeds that reached it"),
            lambda each: f"{each.steps.n_reached} of {len(each.steps.by_seed)}",
        ),
        (number("steps"), lambda each: _median(each.steps, of_count)),
        (number("tokens"), lambda each: _median(each.tokens, of_count)),
        *([] if is_of_machines(section, TIME) else seconds),
    ]
    worst, whose = worst_arm(section), "the claim's target"
    if worst and (asked.claim is None or asked.claim.target is None):
        whose = f"the highest final loss of {worst.label}, whose mean is highest"
    caption = f"Until a validation loss of {write(target, of_loss)}, {whose}"
    return [table(caption, to_target(section, target), columns, TARGET_NOTE)]


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
