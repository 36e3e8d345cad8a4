"""The tables of an equal tuning budget: what it took, what it chose, what it changed."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from bench.merge.arms import Arm
from bench.merge.asked import Asked
from bench.merge.sections import Section
from bench.merge.tuned import Trial, Tuning, by_arm, tunings
from bench.records.kinds import LOSS
from bench.report.family import Comparison, Family
from bench.report.page.answer import decimals_of, write_interval, write_mean
from bench.report.page.content import Columns, Heading, Table, number, table
from bench.report.pairs import measured
from bench.report.tuning import (
    Splits,
    edges_of_ranges,
    key_of,
    on_both_splits,
    simulated_error,
    within,
)
from bench.report.words import metric_words, percent
from bench.statistics.contrast import Contrast, difference
from bench.statistics.text import NOT_AVAILABLE, Decimals, counted, of_loss, write

FEW = 2  # configurations that the first sentence names
BESIDE_NOTE = (
    "The untuned differences are not part of the claim, and their intervals are exploratory."
)
SPLITS_NOTE = (
    " On the split of the choice: the tuned difference in {metric}, by which settings were chosen; "
    "where the two splits differ by more than chance (at the same level), it says so."
)
SENSITIVITY_NOTE = (
    "Within the margin: from the least to the largest value of {key} of any trial that came within "
    "{margin:g} of the best of its study; other settings vary with it. Tuning's error: the "
    "standard deviation of the tuned figure over tunings like these, simulated from a parabola "
    "through the better half of the trials; n/a: they have none, or are too few. A verdict over "
    "studies has it in its interval; tuned once, nothing has."
)


def tuning_tables(section: Section, family: Family | None, asked: Asked) -> list[Table]:
    """Nothing where nothing was tuned."""
    found = tunings(section, asked.tuned_on)
    if not found:
        return []
    compared = [_beside(found, family, asked)] if family else []
    return [
        _chosen(section, found, family, asked),
        *_carried(section, found, family, asked),
        *compared,
    ]


def edge_words(section: Section, asked: Asked) -> str:
    """What the first sentence adds where optima lie at the edge of their ranges; else empty."""
    if asked.tune is None:
        return ""
    at_edges: dict[str, list[str]] = {}  # by setting, of which arms
    for arm, studies in by_arm(tunings(section, asked.tuned_on)).items():
        for key in edges_of_ranges(studies, asked.tune.space):
            at_edges.setdefault(key, []).append(arm)
    told = "; ".join(
        f"the best {key} of {' and '.join(arms) if len(arms) <= FEW else f'{len(arms)} of these'}"
        for key, arms in at_edges.items()
    )
    return f"; at the edge of what was tried: {told}" if told else ""


def split_points(section: Section, family: Family, asked: Asked) -> list[str]:
    """A sentence for each comparison on which choice and judgement disagree."""
    if not section.is_tuned:
        return []
    decimals = decimals_of(family)
    return [
        f"{each.arm.label} is at {write_mean(splits.chosen_by, decimals)} in {asked.tuned_on}, by "
        f"which settings were chosen, and at {write_mean(each.contrast, decimals)} in what is "
        "claimed: the splits disagree by more than chance."
        for each in family.comparisons
        if (splits := on_both_splits(each, family, asked.tuned_on)) and splits.disagree
    ]


def trials_table(section: Section, asked: Asked) -> list[Table]:
    """Every trial with its figure."""
    columns: Columns[tuple[Tuning, Trial]] = [
        (Heading("configuration"), lambda each: each[0].label),
        (number("trial"), lambda each: str(each[1].number)),
        (Heading("settings"), lambda each: settings_words(each[1].settings)),
        (number(f"{asked.tuned_on}, mean"), lambda each: write(each[1].mean, of_loss)),
        (Heading("seeds ok"), lambda each: f"{_ok(each[1])} of {each[0].seeds}"),
        (Heading("choice"), lambda each: "chosen" if each[0].best is each[1] else ""),
    ]
    found = tunings(section, asked.tuned_on)
    rows = [(one, trial) for one in found for trial in one.trials]
    note = "Trial 1 is the matrix's own setting. Trials are in no other table and no curve."
    return [table("Trials", rows, columns, note)] if rows else []


def _ok(trial: Trial) -> int:
    return sum(figure is not None for figure in trial.figures)


def settings_words(settings: Mapping[str, Any]) -> str:
    """For example "lr 0.003162, weight_decay 0.1"."""
    told = [f"{key} {_written(value)}" for key, value in settings.items()]
    return ", ".join(told) or NOT_AVAILABLE


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chosen(section: Section, found: list[Tuning], family: Family | None, asked: Asked) -> Table:
    metric = family.metric if family else asked.tuned_on
    decimals = decimals_of(family) if family and family.column.kind != LOSS else of_loss
    columns: Columns[Tuning] = [
        (Heading("configuration"), lambda one: one.label),
        (Heading("budget"), _budget),
        (
            number("not ok"),
            lambda one: str(sum(len(trial.figures) - _ok(trial) for trial in one.trials)),
        ),
        (
            number("best trial"),
            lambda one: str(one.best.number) if one.best else _why_none(one),
        ),
        (
            Heading("settings"),
            lambda one: settings_words(one.best.settings) if one.best else NOT_AVAILABLE,
        ),
        (number(f"untuned, {metric}"), lambda one: _untuned_mean(one, metric, decimals)),
        (number(f"tuned, {metric}"), lambda one: _mean(one.tuned, metric, decimals, one.study)),
        (Heading("at the edge of what was tried"), lambda one: ", ".join(one.edges) or "no"),
    ]
    caption = "Tuning: the same budget for every configuration"
    more_is_better = section.setup.columns[asked.tuned_on].more_is_better
    return table(caption, found, columns, _note(found, asked, more_is_better))


def _carried(
    section: Section, found: list[Tuning], family: Family | None, asked: Asked
) -> list[Table]:
    """How far from its best rate each arm stays within the margin, and how much its tuning errs."""
    key = key_of(found)
    if asked.tune is None or key is None:
        return []
    space, margin = asked.tune.space, family.margin if family and not family.relative else None
    more_is_better = section.setup.columns[asked.tuned_on].more_is_better

    def carries(studies: Sequence[Tuning]) -> str:
        if margin is None or not (ends := within(studies, key, margin, more_is_better)):
            return NOT_AVAILABLE
        low, high = ends
        return (
            f"{low:g} to {high:g}, a factor of {high / low:.3g}" if low else f"{low:g} to {high:g}"
        )

    columns: Columns[tuple[str, list[Tuning]]] = [
        (Heading("configuration"), lambda each: each[0]),
        (Heading(f"{key} within the margin"), lambda each: carries(each[1])),
        (
            number("tuning's error (simulated)"),
            lambda each: write(simulated_error(each[1], space), of_loss),
        ),
    ]
    caption = "How much the choice of settings matters, and errs"
    note = SENSITIVITY_NOTE.format(key=key, margin=margin or 0.0)
    return [table(caption, by_arm(found).items(), columns, note)]


def _budget(one: Tuning) -> str:
    """For example "8 settings × 2 seeds × 1,000 steps"."""
    steps = one.untuned.constant("steps") if one.untuned else None
    length = f" × {steps:,.0f} steps" if steps else ""
    settings = f"{len(one.trials)} settings"
    if one.different < len(one.trials):
        settings += f", {one.different} of them different"
    return f"{settings} × {counted(one.seeds, 'seed')}{length}"


def _why_none(one: Tuning) -> str:
    return "none: all are one" if one.different == 1 and len(one.trials) > 1 else "not known yet"


def _mean(arm: Arm | None, metric: str, decimals: Decimals, study: int | None = None) -> str:
    """Of all seeds, or of those of one study."""
    if arm is None:
        return NOT_AVAILABLE
    spread = arm.spread(metric)
    return write(spread.by_seed.get(study) if study else spread.mean, decimals)


def _untuned_mean(one: Tuning, metric: str, decimals: Decimals) -> str:
    """Over the seeds that the tuned one is judged on: of one study, its own."""
    if one.untuned is None or one.tuned is None or one.study is None:
        return _mean(one.untuned, metric, decimals)
    known = one.untuned.spread(metric).by_seed
    mine = [known[seed] for seed in one.tuned.seeds_of.get(one.study, ()) if seed in known]
    return write(statistics.fmean(mine) if mine else None, decimals)


def _note(found: list[Tuning], asked: Asked, more_is_better: bool) -> str:
    best = "highest" if more_is_better else "lowest"
    note = (
        f"The best trial has the {best} {asked.tuned_on}, on average over the seeds of the tuning, "
        "which are used for nothing else; trial 1 is the untuned setting. Losses here are means "
        "over the matrix's own seeds, of a study over those that it is judged on."
    )
    if same := [one.label for one in found if one.alike]:
        note += (
            f" Of {', '.join(same)} some trials ended with the same losses to the last digit: what "
            "was varied does not reach the optimizer, and its budget was smaller than it looks."
        )
    if any(one.edges for one in found):
        note += (
            " A best value at the edge of what was tried: a better one may lie beyond. Widen the "
            "space there before trusting the configuration's rank."
        )
    return note


def _beside(found: list[Tuning], family: Family, asked: Asked) -> Table:
    """Every arm's difference from the baseline before and after tuning."""
    arms = [studies[0] for studies in by_arm(found).values()]
    base = next((one for one in arms if one.tuned is family.baseline), None)
    compared = {each.arm.arm_id: each for each in family.comparisons}
    rows = [
        (one.arm, _untuned(one, base, family), compared[one.tuned.arm_id])
        for one in arms
        if one.tuned and one.tuned.arm_id in compared
    ]
    decimals = decimals_of(family)
    interval = number(f"interval ({percent(family.confidence)})")
    splits = {
        each.arm.arm_id: on_both_splits(each, family, asked.tuned_on) for each in family.comparisons
    }

    def by_choice(row: tuple[str, Contrast, Comparison]) -> str:
        known: Splits | None = splits[row[2].arm.arm_id]
        if known is None:
            return NOT_AVAILABLE
        return write_mean(known.chosen_by, decimals) + (", disagrees" if known.disagree else "")

    columns: Columns[tuple[str, Contrast, Comparison]] = [
        (Heading("configuration"), lambda row: row[0]),
        (number("untuned"), lambda row: write_mean(row[1], decimals)),
        (interval, lambda row: write_interval(row[1], decimals)),
        (number("tuned"), lambda row: write_mean(row[2].contrast, decimals)),
        (interval, lambda row: write_interval(row[2].contrast, decimals)),
        (Heading("verdict, tuned"), lambda row: row[2].told),
        *([(number("on the split of the choice"), by_choice)] if any(splits.values()) else []),
    ]
    metric = metric_words(family.setup, family.metric)
    less = "against" if family.relative else "less"
    caption = f"Before and after tuning: {metric} {less} that of the baseline"
    note = SPLITS_NOTE.format(metric=asked.tuned_on) if any(splits.values()) else ""
    return table(caption, rows, columns, BESIDE_NOTE + note)


def _untuned(one: Tuning, base: Tuning | None, family: Family) -> Contrast:
    """Over no seed where either arm is not known."""
    arms = (one.untuned, base.untuned if base else None)
    new, old = (
        measured(arm.spread(family.metric).by_seed if arm else {}, family.relative) for arm in arms
    )
    pairs, confidence = family.setup.is_paired, family.confidence
    return difference(new, old, relative=family.relative, confidence=confidence, pairs=pairs)
