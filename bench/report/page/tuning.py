"""The tables of an equal tuning budget: what it took, what it chose, what it changed."""

from collections.abc import Mapping
from typing import Any

from bench.merge.asked import Asked
from bench.merge.sections import Arm, Section
from bench.merge.tuned import Tuning, tunings
from bench.report.family import Family
from bench.report.page.answer import decimals_of, metric_words, percent, write_interval, write_mean
from bench.report.page.content import Heading, Table, table
from bench.statistics.contrast import paired
from bench.statistics.text import NOT_AVAILABLE, counted, of_loss, write


def tuning_tables(section: Section, family: Family | None, asked: Asked) -> list[Table]:
    """Nothing where nothing was tuned."""
    found = tunings(section, asked.tuned_on)
    if not found:
        return []
    compared = [_beside(found, family)] if family else []
    return [_chosen(found, family, asked), *compared]


def trials_table(section: Section, asked: Asked) -> list[Table]:
    """Every trial with its figure."""
    metric = asked.tuned_on
    rows = [
        [
            one.label,
            str(trial.number),
            settings_words(trial.settings),
            write(trial.mean, of_loss),
            f"{sum(figure is not None for figure in trial.figures)} of {one.seeds}",
            "chosen" if one.best is trial else "",
        ]
        for one in tunings(section, metric)
        for trial in one.trials
    ]
    headings = [
        Heading("arm"),
        Heading("trial", number=True),
        Heading("settings"),
        Heading(f"{metric}, mean", number=True),
        Heading("seeds ok"),
        Heading("choice"),
    ]
    note = "Trial 1 is the matrix's own setting. Trials are in no other table and no curve."
    return [table("Trials", headings, rows, note)] if rows else []


def settings_words(settings: Mapping[str, Any]) -> str:
    """For example "lr 0.003162, weight_decay 0.1"."""
    told = [f"{key} {_written(value)}" for key, value in settings.items()]
    return ", ".join(told) or NOT_AVAILABLE


def _written(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _chosen(found: list[Tuning], family: Family | None, asked: Asked) -> Table:
    metric = family.metric if family else asked.tuned_on
    headings = [
        Heading("arm"),
        Heading("budget"),
        Heading("not ok", number=True),
        Heading("best trial", number=True),
        Heading("settings"),
        Heading(f"untuned, {metric}", number=True),
        Heading(f"tuned, {metric}", number=True),
        Heading("at the edge of what was tried"),
    ]
    rows = [
        [
            one.label,
            _budget(one),
            str(sum(figure is None for trial in one.trials for figure in trial.figures)),
            str(one.best.number) if one.best else "not known yet",
            settings_words(one.best.settings) if one.best else NOT_AVAILABLE,
            _loss(one.untuned, metric),
            _loss(one.tuned, metric),
            ", ".join(one.edges) or "no",
        ]
        for one in found
    ]
    return table("Tuning: the same budget for every arm", headings, rows, _note(found, asked))


def _budget(one: Tuning) -> str:
    """For example "8 settings × 2 seeds × 1,000 steps"."""
    steps = one.untuned.constant("steps") if one.untuned else None
    length = f" × {steps:,.0f} steps" if steps else ""
    return f"{len(one.trials)} settings × {counted(one.seeds, 'seed')}{length}"


def _loss(arm: Arm | None, metric: str) -> str:
    return write(arm.spread(metric).mean, of_loss) if arm else NOT_AVAILABLE


def _note(found: list[Tuning], asked: Asked) -> str:
    note = (
        f"The best trial has the lowest {asked.tuned_on}, on average over the seeds of the tuning, "
        "which are used for nothing else; trial 1 is the untuned setting. Losses here are means "
        "over the matrix's own seeds."
    )
    if any(one.edges for one in found):
        note += (
            " An optimum at the edge of what was tried may lie beyond it: widen the space there "
            "before trusting the arm's rank."
        )
    return note


def _beside(found: list[Tuning], family: Family) -> Table:
    """Every arm's difference from the baseline before and after tuning."""
    base = next((one for one in found if one.tuned is family.baseline), None)
    level = percent(family.confidence)
    headings = [
        Heading("arm"),
        Heading("untuned", number=True),
        Heading(f"interval ({level})", number=True),
        Heading("tuned", number=True),
        Heading(f"interval ({level})", number=True),
        Heading("verdict, tuned"),
    ]
    decimals = decimals_of(family)
    by_arm = {id(each.arm): each for each in family.comparisons}
    rows = []
    for one in found:
        each = by_arm.get(id(one.tuned))
        if each is None:
            continue
        rows.append(
            [
                one.label,
                *_untuned(one, base, family),
                write_mean(each.contrast, decimals),
                write_interval(each.contrast, decimals),
                each.told,
            ]
        )
    what = f"{metric_words(family.metric)} less that of the baseline"
    note = "The untuned differences are not part of the claim, and their intervals are exploratory."
    return table(f"Before and after tuning: {what}", headings, rows, note)


def _untuned(one: Tuning, base: Tuning | None, family: Family) -> list[str]:
    if one.untuned is None or base is None or base.untuned is None:
        return [NOT_AVAILABLE, NOT_AVAILABLE]
    new, old = (arm.spread(family.metric).by_seed for arm in (one.untuned, base.untuned))
    contrast = paired(new, old, relative=False, confidence=family.confidence)
    decimals = decimals_of(family)
    return [write_mean(contrast, decimals), write_interval(contrast, decimals)]
