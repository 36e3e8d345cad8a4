"""forest: what the optimizer, the model and both together change, with intervals and verdicts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter, NullLocator

from bench.merge.disturbed import short_note
from bench.records.columns import COLUMNS, TIMINGS
from bench.report.family import TIME, Family
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.rows import (
    FRAME_IN,
    difference_ticks,
    draw_zero,
    row_in,
    set_rows,
    signed,
    write_beside,
)
from bench.report.plots.rungs import EXPLORATORY, RUNGS, Row, best_ladders, rungs
from bench.report.plots.style import GREY, TICK_STEPS, marker_pt, wrapped
from bench.report.plots.whiskers import CUT_SHORT, View, view, whisker
from bench.report.plots.words import better_words, claim_words, margin_words, metric_words, percent
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder
from bench.statistics.text import NOT_AVAILABLE, Decimals, of_measure, sentences, write

NAME = "forest"

TICKS = 5
LINE_PT = 6  # half the distance of the two lines beside a row
# From so wide a range on, ticks of ratios are 1, 2, 5, 10 and not evenly spaced; then 1, 10, 100.
WIDE_RATIO, VAST_RATIO = 4.0, 50.0

CAPTION = (
    "Difference in {name} from {baseline}: mean over the pairs of seeds{n}, with simultaneous t "
    "intervals ({each} each: {count}, look {look}){margin}. {better}"
)
LADDER = (
    "The optimizer alone, the model bundle alone (everything in which the two models differ"
    "{bundle}) and their interaction sum to the whole difference; the interaction was not part of "
    "the claim."
)
TIMES = "Below: the same for training time, as ratios, without verdicts."


@dataclass(frozen=True)
class Panel:
    title: str
    rows: list[Row]
    decimals: Decimals
    margin: float | None
    group: int  # rows of one ladder, a line between two; 0: there is none

    @property
    def shown(self) -> View:
        contrasts = [row.contrast for row in self.rows]
        figures = [0.0, *(value for contrast in contrasts for value in contrast.values)]
        if self.margin is not None:
            figures += [-self.margin, self.margin]
        return view(figures, [contrast.interval for contrast in contrasts])

    @property
    def is_cut(self) -> bool:
        intervals = (row.contrast.interval for row in self.rows)
        return any(self.shown.cuts(interval) for interval in intervals if interval is not None)


def forest(scene: Scene) -> Drawing | None:
    """The ladders from the baseline, or every arm against it where there is none."""
    family = scene.family
    if family is None or not scene.comparisons:
        return None
    ladders = best_ladders(scene, family)
    panels = [_metric_panel(scene, family, ladders)]
    times = _time_panel(scene, family, ladders)
    if times is not None:
        panels.append(times)
    rows_in = [len(panel.rows) * row_in([row.label for row in panel.rows], 2) for panel in panels]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=rows_in)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, panel)

    return scene.drawing(
        NAME,
        _caption(scene, family, ladders, panels),
        _alt(family, panels[0]),
        picture(sum(rows_in) + FRAME_IN * len(panels), scene.title, draw),
    )


def _metric_panel(scene: Scene, family: Family, ladders: Sequence[Ladder]) -> Panel:
    name, unit = metric_words(family.metric)
    decimals = COLUMNS[family.metric].decimals
    title = f"Difference in {name}" + (f" ({unit})" if unit else "")
    mark = scene.section.timing.mark(family.metric)
    if ladders:
        rows = [row for ladder in ladders for row in rungs(scene, ladder, family.comparisons)]
    else:
        rows = [
            Row(
                wrapped(comparison.arm.label),
                scene.look(comparison.arm),
                comparison.contrast,
                comparison.told,
            )
            for comparison in scene.comparisons
        ]
    group = RUNGS if ladders else 0
    return Panel(f"{title} {mark}".rstrip(), rows, decimals, family.margin, group)


def _time_panel(scene: Scene, family: Family, ladders: Sequence[Ladder]) -> Panel | None:
    tops = [(ladder.model, ladder.optimizer) for ladder in ladders]
    found = [each for each in family.time_ladders if (each.model, each.optimizer) in tops]
    rows = [row for ladder in found for row in rungs(scene, ladder, None)]
    if not any(row.contrast.n for row in rows):
        return None
    title = f"Training time, as a ratio {scene.section.timing.mark(TIME)}".rstrip()
    return Panel(title, rows, of_measure, None, RUNGS)


def _draw_panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    shown = panel.shown
    set_rows(axes, [row.label for row in panel.rows])
    draw_zero(axes, panel.margin, shown)
    relative = any(row.contrast.relative for row in panel.rows)
    if relative:
        _ratio_ticks(axes, shown)
    else:
        difference_ticks(axes, TICKS)
    for place, row in enumerate(panel.rows):
        _draw_row(axes, place, row, shown, panel.decimals)
        if place and panel.group and place % panel.group == 0:
            axes.axhline(place - 0.5, color=GREY, linewidth=0.5)


def _draw_row(axes: Axes, place: int, row: Row, shown: View, decimals: Decimals) -> None:
    contrast = row.contrast
    whisker(axes, contrast.interval, place, shown)
    if contrast.mean is not None:
        axes.plot(
            contrast.mean,
            place,
            marker=row.style.marker,
            markersize=marker_pt(row.style, 7),
            color=row.style.colour,
            markeredgecolor="black",
            markeredgewidth=0.7,
            linestyle="none",
            zorder=6,
        )
    if row.verdict:
        write_beside(axes, place, row.verdict, LINE_PT, bold=row.verdict != EXPLORATORY)
    figures = _figures(contrast, decimals)
    write_beside(axes, place, figures, -LINE_PT if row.verdict else 0)


def _figures(contrast: Contrast, decimals: Decimals) -> str:
    """Mean and interval, for example "−0.0523 [−0.0610, −0.0436]" or "1.27× [1.22, 1.33]"."""
    if contrast.mean is None:
        return NOT_AVAILABLE
    interval = contrast.interval
    if contrast.relative:
        ends = [_ratio(interval.low), _ratio(interval.high)] if interval else [NOT_AVAILABLE]
        return f"{_ratio(contrast.mean)}× [{', '.join(ends)}]"
    ends = [signed(interval.low, decimals), signed(interval.high, decimals)] if interval else []
    return f"{signed(contrast.mean, decimals)} [{', '.join(ends) or NOT_AVAILABLE}]"


def _ratio(logarithm: float) -> str:
    """The interval of two seeds may reach ratios that nobody would read in digits."""
    if abs(logarithm) > math.log(1000):
        return "> 1000" if logarithm > 0 else "< 0.001"
    return write(math.exp(logarithm), of_measure)


def _ratio_ticks(axes: Axes, shown: View) -> None:
    """Places are logarithms, so that halving and doubling are equally far; labels are ratios."""
    low, high = math.exp(shown.low), math.exp(shown.high)
    if high / low < WIDE_RATIO:
        ticks = list(MaxNLocator(nbins=TICKS, steps=TICK_STEPS).tick_values(low, high))
    else:
        parts = (1, 2, 5) if high / low < VAST_RATIO else (1,)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [part * 10.0**power for power in powers for part in parts]
    kept = [tick for tick in ticks if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator([math.log(tick) for tick in kept]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{math.exp(value):.10g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def _caption(
    scene: Scene, family: Family, ladders: Sequence[Ladder], panels: Sequence[Panel]
) -> str:
    name, _ = metric_words(family.metric)
    counts = sorted({row.contrast.n for row in panels[0].rows})
    n = f" (n = {counts[0]}" + (f" to {counts[-1]})" if len(counts) > 1 else ")")
    parts = [
        CAPTION.format(
            name=name,
            baseline=family.baseline.label,
            n=n,
            each=percent(family.confidence),
            count=_count(len(family.comparisons), "comparison"),
            look=family.look,
            margin=margin_words(family),
            better=better_words(family.metric),
        ),
        claim_words(family),
    ]
    if ladders:
        parts.append(LADDER.format(bundle=_bundle(scene, ladders)))
        parts.append(_of_other_pairs(scene, ladders))
        if (possible := len(family.ladders)) > len(ladders):
            parts.append(f"{len(ladders)} of {possible} ladders: to the best arms by {name}.")
    if len(panels) > 1:
        parts.append(TIMES)
    if len(panels) > 1 or family.metric in TIMINGS:
        parts.append(short_note(scene.section.timing))
    cut = any(panel.is_cut for panel in panels)
    return sentences(*parts, CUT_SHORT if cut else "")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _bundle(scene: Scene, ladders: Sequence[Ladder]) -> str:
    """How much larger the other model is, where there is one other and both are known."""
    pairs = {(ladder.base_model, ladder.model) for ladder in ladders}
    if len(pairs) > 1:
        return ""
    base, top = (
        next((arm.constant("n_params") for arm in scene.arms if arm.model == model), None)
        for model in pairs.pop()
    )
    if not base or not top or base == top:
        return ""
    more = 100 * (top / base - 1)
    return f", {abs(more):.0f} % {'more' if more > 0 else 'fewer'} parameters included"


def _of_other_pairs(scene: Scene, ladders: Sequence[Ladder]) -> str:
    """A verdict is over all pairs of its two arms; a ladder over the seeds that all four have."""
    seeds = {frozenset(ladder.whole.by_seed) for ladder in ladders}
    seeds |= {frozenset(comparison.contrast.by_seed) for comparison in scene.comparisons}
    if len(seeds) == 1:
        return ""
    return (
        "Intervals are over the seeds that all four arms of a ladder have, verdicts over all "
        "seeds that an arm shares with the baseline."
    )


def _alt(family: Family, panel: Panel) -> str:
    rows = "; ".join(
        f"{' '.join(row.label.split())}: {_figures(row.contrast, panel.decimals)}"
        + (f", {row.verdict}" if row.verdict else "")
        for row in panel.rows
    )
    return f"Forest plot of differences from {family.baseline.label}. {panel.title}. {rows}."
