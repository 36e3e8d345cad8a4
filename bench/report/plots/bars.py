"""comparison_graph: loss, training time, memory and inference time, a bar an arm."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.merge.disturbed import short_note
from bench.merge.sections import Section
from bench.records.columns import memory_columns
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import (
    MOST_POINTS,
    SMALL_PT,
    TICK_FORM,
    TICK_STEPS,
    Style,
    marker_pt,
    wrapped,
)
from bench.report.plots.whiskers import CUT_SHORT, View, whisker
from bench.report.plots.words import first_seeds, losses, memory_words, n_words
from bench.statistics.interval import Interval
from bench.statistics.spread import Spread
from bench.statistics.text import NOT_AVAILABLE, Decimals, of_loss, of_measure, sentences, write

NAME = "comparison_graph"

# Inches: a line of a label, the air between two bars, and what a panel needs beside its bars.
LINE_IN, GAP_IN, FRAME_IN = 0.16, 0.14, 0.75
LEAST_BARS_IN = 0.8
# A bar takes this share of an arm's room, but grows no thicker than so many inches.
BAR, THICKEST_IN = 0.72, 0.26
# Seeds are spread over this share of a bar's thickness, so that equal ones stay apart.
JITTER = 0.5
FEW = 3  # seeds that have room for a marker of full size
# Room to the right of the longest bar for its figure, and how far an interval may reach beyond
# the longest bar, as shares of that bar.
FIGURE_ROOM, INTERVAL_ROOM = 0.36, 0.25
TINT = 0.35  # of the arm's colour in a bar's face, the rest is white: points stay visible

CAPTION = (
    "Bars: mean over seeds ({n}); whiskers: 95 % t interval of the mean, none with fewer than two "
    "seeds, of a time with fewer than three undisturbed ones; points: single seeds{few}. Training "
    "time leaves out evaluation, warm-up and start-up; memory is {memory}; "
    "inference time is the median forward pass of one batch."
)


@dataclass(frozen=True)
class Panel:
    column: str  # of runs.csv
    title: str
    unit: str
    decimals: Decimals


@dataclass(frozen=True)
class Bar:
    label: str
    style: Style
    spread: Spread
    thickness: float  # as a share of the room an arm has
    mark: str = ""  # after its figure

    @property
    def interval(self) -> Interval | None:
        return self.spread.interval


def panels(section: Section) -> tuple[Panel, ...]:
    """The published original's four comparisons, each with its unit."""
    memory, (title, unit, _) = memory_columns(section.key.device)[0], memory_words(section)
    return (
        Panel("val_loss_final", "Validation loss, final", "nats per token", of_loss),
        Panel("train_time_s", "Training time", "s", of_measure),
        Panel(memory, title, unit, of_measure),
        Panel("infer_time_ms_p50", "Inference time", "ms, median of a batch", of_measure),
    )


def comparison_graph(scene: Scene) -> Drawing:
    section = scene.section
    labels = [wrapped(arm.label) for arm in scene.arms]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    rows_in = max(LEAST_BARS_IN, len(labels) * (lines * LINE_IN + GAP_IN))
    thickness = BAR * min(1, THICKEST_IN * len(labels) / (BAR * rows_in))
    found = [
        (
            panel,
            [
                Bar(
                    label,
                    scene.look(arm),
                    arm.spread(panel.column),
                    thickness,
                    mark=section.timing.mark(panel.column),
                )
                for label, arm in zip(labels, scene.arms, strict=True)
            ],
        )
        for panel in panels(section)
    ]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, 2, sharey=True)
        for axes, (panel, bars) in zip(grid.flat, found, strict=True):
            _draw_panel(axes, panel, bars)

    cut = any(
        bar.interval is not None and _shown(bars).cuts(bar.interval)
        for _, bars in found
        for bar in bars
    )
    n = n_words(arm.n_seeds for arm in scene.arms)
    few = first_seeds(max((arm.n_seeds for arm in scene.arms), default=0))
    return scene.drawing(
        NAME,
        sentences(
            CAPTION.format(n=n, memory=memory_words(section)[2], few=few),
            CUT_SHORT if cut else "",
            short_note(section.timing),
        ),
        "Bar charts of final validation loss, training time, peak memory and inference time "
        f"by arm. Final validation loss: {losses(section)}.",
        picture(2 * (rows_in + FRAME_IN), scene.title, draw),
    )


def _shown(bars: Sequence[Bar]) -> View:
    """From 0 to the end of the longest bar, point or interval, but see INTERVAL_ROOM."""
    longest = max((_longest(bar.spread) for bar in bars), default=0.0)
    ends = [bar.interval.high for bar in bars if bar.interval is not None]
    most = longest * (1 + INTERVAL_ROOM)
    return View(0.0, max([longest, *(min(end, most) for end in ends)]))


def _longest(spread: Spread) -> float:
    return max(spread.by_seed.values(), default=0.0)


def _draw_panel(axes: Axes, panel: Panel, bars: Sequence[Bar]) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.unit)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)  # the first arm on top
    axes.tick_params(axis="y", length=0)
    shown = _shown(bars)
    if not bars:
        axes.text(0.5, 0.5, NOT_AVAILABLE, transform=axes.transAxes, ha="center", va="center")
    if shown.high <= 0:  # nothing to measure: no ticks that would look like a scale
        axes.set_xticks([])
        axes.set_xlim(0, 1)
    else:
        longest = max(_longest(bar.spread) for bar in bars)
        axes.set_xlim(0, shown.high + longest * FIGURE_ROOM)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(TICK_FORM)
    for place, bar in enumerate(bars):
        _draw_bar(axes, place, bar, shown, panel.decimals)


def _draw_bar(axes: Axes, place: int, bar: Bar, shown: View, decimals: Decimals) -> None:
    spread, style = bar.spread, bar.style
    if spread.mean is None:
        _note(axes, 0, place, NOT_AVAILABLE)
        return
    axes.barh(
        place,
        spread.mean,
        height=bar.thickness,
        color=[1 - TINT * (1 - part) for part in to_rgb(style.colour)],
        edgecolor=style.colour,
        hatch=style.hatch,
        linewidth=1,
    )
    _draw_seeds(axes, place, bar)
    whisker(axes, bar.interval, place, shown)  # above the seeds, which would hide it
    reach = max(spread.mean, _longest(spread), bar.interval.high if bar.interval else 0.0)
    _note(axes, min(reach, shown.high), place, write(spread.mean, decimals) + bar.mark)


def _draw_seeds(axes: Axes, place: int, bar: Bar) -> None:
    """A point a seed, side by side across the bar."""
    values = list(bar.spread.by_seed.values())[:MOST_POINTS]
    middle = (len(values) - 1) / 2
    apart = JITTER * bar.thickness / max(1, len(values) - 1)
    axes.plot(
        values,
        [place + apart * (index - middle) for index in range(len(values))],
        linestyle="none",
        marker=bar.style.marker,
        markersize=marker_pt(bar.style, 4 if len(values) <= FEW else 3),
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.8 if len(values) <= FEW else 0.6,
        zorder=4,
    )


def _note(axes: Axes, x: float, place: int, text: str) -> None:
    axes.annotate(
        text,
        (x, place),
        xytext=(6, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=SMALL_PT,
    )
