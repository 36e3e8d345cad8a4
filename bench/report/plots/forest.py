"""forest: what the optimizer, the model and both together change, with intervals and verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from textwrap import wrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.family import TIME, Family
from bench.report.ladder import EXPLORATORY, best_first, bundle_words, steps_of
from bench.report.machines import MACHINE
from bench.report.plots.axes import (
    CUT_SHORT,
    FRAME_IN,
    View,
    difference_ticks,
    draw_mean,
    draw_zero,
    ratio_ticks,
    row_in,
    set_rows,
    view_of,
    write_beside,
)
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import GREY, LABEL_WIDTH, Style, wrapped
from bench.report.words import COST, claim_words, contrast_words, difference_words, metric_name
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder
from bench.statistics.text import (
    NOT_AVAILABLE,
    Decimals,
    counted,
    fixed,
    of_measure,
    plural,
    sentences,
    span,
    write,
)

NAME = "forest"

MOST_LADDERS = 2  # in one picture: a page holds no more
INTERACTION = Style("#000000", "d", "-", "")  # belongs to no arm
TICKS = 5
LINE_PT = 6  # half the distance of the two lines beside a row

CAPTION = (
    "{what}: {mean} over the {pairs} (n = {n}), with "
    "simultaneous t intervals ({each} each: {count}, interim look {look}){margin}. {better}"
)
LADDER = (
    "The optimizer alone, the model alone ({bundle}) and their interaction {sum}; the interaction "
    "was not part of the claim."
)
SUM, PRODUCT = "sum to the whole difference", "multiply to the whole ratio"
BUNDLE = "everything in which the two models differ"
OTHER_PAIRS = (
    "Intervals are over the seeds that all four configurations have, verdicts over all seeds that "
    "a configuration shares with the baseline."
)
AT_COST = "Below, {cost} ({at}): what the verdicts would be there, where nothing was claimed of it."
TIMES = "Last: the same for training time, as ratios, without verdicts."


@dataclass(frozen=True)
class Row:
    label: str
    style: Style
    contrast: Contrast
    verdict: str  # in words; empty: none was looked for
    is_claimed: bool = True


@dataclass(frozen=True)
class Forest:
    """Rows over one axis."""

    title: str
    rows: list[Row]
    decimals: Decimals
    margin: float | None  # on the scale of the contrasts
    group: int  # rows of one ladder, a line between two; 0: there is none
    beside: Sequence[Row] = ()  # of another panel, which has the same axis

    @property
    def shown(self) -> View:
        return view_of([row.contrast for row in (*self.rows, *self.beside)], self.margin)


def forest(scene: Scene) -> Drawing | None:
    """The contrasts of ladders from the baseline, or every arm against it where there is none."""
    family = scene.family
    if family is None or not scene.comparisons:
        return None
    ladders = _best_ladders(scene, family)
    compared = _on_one_axis([_of_metric(scene, family, ladders), *_at_cost(scene, ladders)])
    panels = [*compared, *_of_time(scene, family, ladders)]
    rows_in = [len(panel.rows) * row_in([row.label for row in panel.rows], 2) for panel in panels]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows_in)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, panel)

    return scene.drawing(
        NAME,
        _caption(scene, family, ladders, panels),
        _alt(family, compared),
        picture(sum(rows_in) + FRAME_IN * len(panels), scene.title, draw),
    )


def _best_ladders(scene: Scene, family: Family) -> list[Ladder]:
    """MOST_LADDERS of those whose top is shown, in the plans' order.

    Those without a seed that all four arms have tell nothing.
    """
    tops = {(arm.model, arm.optimizer) for arm in scene.arms}
    found = [
        ladder
        for ladder in family.ladders
        if (ladder.model, ladder.optimizer) in tops and ladder.whole.n
    ]
    best = best_first(found, family)[:MOST_LADDERS]
    return [ladder for ladder in found if ladder in best]


def _rows(scene: Scene, family: Family, ladders: Sequence[Ladder], judged: bool) -> list[Row]:
    return [
        Row(
            "\n".join([step.name, *wrap(step.how, LABEL_WIDTH + 6, break_on_hyphens=False)]),
            scene.look(step.arm) if step.arm else INTERACTION,
            step.contrast,
            step.verdict if judged else "",
        )
        for ladder in ladders
        for step in steps_of(ladder, family)
    ]


def _of_metric(scene: Scene, family: Family, ladders: Sequence[Ladder]) -> Forest:
    decimals = family.column.decimals
    mark = scene.section.timing.mark(family.metric)
    words = contrast_words(family)
    title = f"{words[0].upper()}{words[1:]} {mark}".rstrip()
    if ladders:
        rows = _rows(scene, family, ladders, judged=True)
        return Forest(title, rows, decimals, family.limit, len(rows) // len(ladders))
    rows = [
        Row(wrapped(each.arm.label), scene.look(each.arm), each.contrast, each.told)
        for each in scene.shown(family)
    ]
    return Forest(title, rows, decimals, family.limit, 0)


def _at_cost(scene: Scene, ladders: Sequence[Ladder]) -> list[Forest]:
    """The same rows at equal cost, where the claim is about equal steps."""
    family = scene.at_cost
    if family is None:
        return []
    tops = [(ladder.model, ladder.optimizer) for ladder in ladders]
    shown = [each for each in family.ladders if (each.model, each.optimizer) in tops]
    found = _of_metric(scene, family, shown)
    rows = [replace(row, is_claimed=False) for row in found.rows]
    title = f"The same {COST[family.metric]} {scene.section.timing.mark(family.metric)}".rstrip()
    return [replace(found, title=title, rows=rows)]


def _on_one_axis(panels: Sequence[Forest]) -> list[Forest]:
    rows = [row for panel in panels for row in panel.rows]
    return [replace(panel, beside=rows) for panel in panels]


def _of_time(scene: Scene, family: Family, ladders: Sequence[Ladder]) -> list[Forest]:
    """The same ladders; none where no time is known, or it is the metric."""
    if not family.time_ladders:
        return []
    both = zip(family.ladders, family.time_ladders, strict=True)
    found = [times for ladder, times in both if ladder in ladders]
    rows = _rows(scene, family, found, judged=False)
    if not any(row.contrast.n for row in rows):
        return []
    ns = {row.contrast.n for row in rows}
    n = f", n = {span(ns)}" if not all(row.contrast.interval for row in rows) else ""
    title = f"Training time, as a ratio {scene.section.timing.mark(TIME)}".rstrip() + n
    return [Forest(title, rows, of_measure, None, len(rows) // len(found))]


def _draw_panel(axes: Axes, panel: Forest) -> None:
    axes.set_title(panel.title)
    shown = panel.shown
    set_rows(axes, [row.label for row in panel.rows])
    draw_zero(axes, panel.margin, shown)
    if any(row.contrast.relative for row in panel.rows):
        ratio_ticks(axes, TICKS, shown)
    else:
        difference_ticks(axes, TICKS)
    for place, row in enumerate(panel.rows):
        draw_mean(axes, row.contrast, place, row.style, shown)
        if row.verdict:
            bold = row.is_claimed and row.verdict != EXPLORATORY
            write_beside(axes, place, row.verdict, LINE_PT, bold=bold)
        figures = _figures(row.contrast, panel.decimals)
        write_beside(axes, place, figures, -LINE_PT if row.verdict else 0)
        if place and panel.group and place % panel.group == 0:
            axes.axhline(place - 0.5, color=GREY, linewidth=0.5)


def _figures(contrast: Contrast, decimals: Decimals) -> str:
    """Mean and interval, for example "−0.0523 [−0.0610, −0.0436]" or "1.27× [1.22, 1.33]".

    A mean without an interval stands alone.
    """
    if contrast.mean is None:
        return NOT_AVAILABLE

    def told(value: float) -> str:
        if contrast.relative:
            return _ratio(value)
        return fixed(value, decimals(value), "+").replace("-", "−")

    interval = contrast.interval
    mean = told(contrast.mean) + ("×" if contrast.relative else "")
    return f"{mean} [{told(interval.low)}, {told(interval.high)}]" if interval else mean


def _ratio(logarithm: float) -> str:
    """The interval of two seeds may reach ratios that nobody would read in digits."""
    if abs(logarithm) > math.log(1000):
        return "> 1000" if logarithm > 0 else "< 0.001"
    return write(math.exp(logarithm), of_measure)


def _caption(
    scene: Scene, family: Family, ladders: Sequence[Ladder], panels: Sequence[Forest]
) -> str:
    of_ladders = []
    if ladders:
        bundles = {bundle_words(ladder, scene.section, scene.asked) for ladder in ladders}
        bundle = ": ".join([BUNDLE, *(bundles if len(bundles) == 1 else ())]).removesuffix(": ")
        of_ladders = [
            LADDER.format(bundle=bundle, sum=PRODUCT if family.relative else SUM),
            _of_other_pairs(scene, ladders),
        ]
        if (possible := len(family.ladders)) > len(ladders):
            of_ladders.append(
                f"Shown are the best {len(ladders)} of {possible} configurations with another "
                f"model and another optimizer, by {metric_name(family.setup, family.metric)}."
            )
    cut = [panel.shown.cuts(*(row.contrast.interval for row in panel.rows)) for panel in panels]
    return sentences(
        CAPTION.format(
            pairs=_what_counts(family),
            n=span({row.contrast.n for row in panels[0].rows}),
            count=counted(len(family.comparisons), "comparison"),
            look=family.look,
            **difference_words(family),
        ),
        claim_words(family),
        *of_ladders,
        AT_COST.format(cost=COST[scene.at_cost.metric], at=scene.at_cost.at)
        if scene.at_cost
        else "",
        TIMES if family.time_ladders and len(panels) > 1 + bool(scene.at_cost) else "",
        CUT_SHORT if any(cut) else "",
    )


def _what_counts(family: Family) -> str:
    if family.unit == MACHINE:
        return plural(MACHINE)
    return f"pairs of {plural(family.unit)}" if family.setup.is_paired else "runs of each"


def _of_other_pairs(scene: Scene, ladders: Sequence[Ladder]) -> str:
    """A verdict is over all pairs of its two arms; a ladder over the seeds that all four have."""
    contrasts = [each.whole for each in ladders] + [each.contrast for each in scene.comparisons]
    seeds = {frozenset(contrast.by_seed) for contrast in contrasts if contrast.is_paired}
    return OTHER_PAIRS if len(seeds) > 1 else ""


def _alt(family: Family, panels: Sequence[Forest]) -> str:
    what = "ratios to" if family.relative else "differences from"
    told = (f"{panel.title}. {_rows_told(panel)}." for panel in panels)
    return f"Forest plot of {what} {family.baseline.label}. {' '.join(told)}"


def _rows_told(panel: Forest) -> str:
    return "; ".join(
        f"{' '.join(row.label.split())}: {_figures(row.contrast, panel.decimals)}"
        + (f", {row.verdict}" if row.verdict else "")
        for row in panel.rows
    )
