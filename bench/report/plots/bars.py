"""comparison_graph: loss, training time, memory and inference time, a bar a configuration."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.merge.arms import Arm
from bench.merge.sections import Section
from bench.report.machines import is_of_machines
from bench.report.plots.axes import (
    CUT_SHORT,
    LINE_IN,
    View,
    draw_points,
    most_lines,
    set_rows,
    whisker,
)
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import (
    MOST_POINTS,
    SMALL_PT,
    TICK_FORM,
    TICK_STEPS,
    Style,
    first_seeds,
    wrapped,
)
from bench.report.targets import LOSS
from bench.report.words import losses, memory_words, metric_name, n_with_times, times_words
from bench.statistics.spread import Spread
from bench.statistics.text import NOT_AVAILABLE, sentences

NAME = "comparison_graph"

GAP_IN, FRAME_IN = 0.14, 0.75  # between two bars, and what a panel needs beside its bars
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
    "seeds, of a time with fewer than three undisturbed ones; points: single seeds{few}. {costs}"
)
COSTS = "{times}; memory is {memory}{inference}."
INFERENCE = "; inference time is the median forward pass of one batch"


@dataclass(frozen=True)
class Measure:
    column: str  # of runs.csv
    title: str
    unit: str


@dataclass(frozen=True)
class Bar:
    style: Style
    spread: Spread
    thickness: float  # as a share of the room an arm has
    figure: str  # its mean, with a mark where that is a disturbed time

    @property
    def longest(self) -> float:
        return max(self.spread.by_seed.values(), default=0.0)


def measures(section: Section) -> tuple[Measure, ...]:
    """The published original's four comparisons, each with its unit."""
    memory, (title, unit, _) = section.memory[0], memory_words(section)
    loss, setup = section.main_metric, section.setup
    name = "Validation loss, final" if loss == LOSS else metric_name(setup, loss)
    found: tuple[Measure, ...] = (
        Measure(loss, name, setup.columns[loss].unit),
        Measure("train_time_s", "Training time", "s"),
        Measure(memory, title, unit),
        Measure("infer_time_ms_p50", "Inference time", "ms, median of a batch"),
    )
    found = found[:3] if setup.program else found  # whose inference nobody has timed
    return tuple(each for each in found if not is_of_machines(section, each.column))


def comparison_graph(scene: Scene) -> Drawing:
    section = scene.section
    labels = [wrapped(arm.label) for arm in scene.arms]
    rows_in = max(LEAST_BARS_IN, len(labels) * (most_lines(labels) * LINE_IN + GAP_IN))
    thickness = BAR * min(1, THICKEST_IN * len(labels) / (BAR * rows_in))

    def bar(arm: Arm, column: str) -> Bar:
        spread = arm.spread(column)
        mark = section.timing.mark(column) if spread.n else ""
        written = section.setup.columns[column].write
        return Bar(scene.look(arm), spread, thickness, written(spread.mean) + mark)

    found = {
        measure: [bar(arm, measure.column) for arm in scene.arms] for measure in measures(section)
    }

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, 2, sharey=True)
        for axes, (measure, bars) in zip(grid.flat, found.items(), strict=False):
            set_rows(axes, labels)
            _draw_bars(axes, measure, bars)
        for axes in grid.flat[len(found) :]:
            axes.set_visible(False)

    cut = any(_shown(bars).cuts(*(bar.spread.interval for bar in bars)) for bars in found.values())
    others = ", training time and peak memory"
    if not section.setup.program:
        others = ", training time, peak memory and inference time"
    others = "" if section.machines else others
    few = first_seeds(max((arm.n_seeds for arm in scene.arms), default=0))
    return scene.drawing(
        NAME,
        sentences(
            CAPTION.format(
                n=n_with_times(scene.arms),
                few=few,
                costs=_costs(section),
            ),
            CUT_SHORT if cut else "",
        ),
        f"Bar charts of {metric_name(section.setup, section.main_metric)}{others} by "
        f"configuration. {losses(section)}.",
        picture(2 * (rows_in + FRAME_IN), scene.title, draw),
    )


def _costs(section: Section) -> str:
    if section.machines:
        return "Times and memory are of several machines, which the page tells one by one."
    return COSTS.format(
        times=times_words(section),
        memory=memory_words(section)[2],
        inference="" if section.setup.program else INFERENCE,
    )


def _shown(bars: Sequence[Bar]) -> View:
    """From 0 to the end of the longest bar, point or interval, but see INTERVAL_ROOM."""
    longest = max((bar.longest for bar in bars), default=0.0)
    ends = [bar.spread.interval.high for bar in bars if bar.spread.interval is not None]
    most = longest * (1 + INTERVAL_ROOM)
    return View(0.0, max([longest, *(min(end, most) for end in ends)]))


def _draw_bars(axes: Axes, measure: Measure, bars: Sequence[Bar]) -> None:
    axes.set_title(measure.title)
    axes.set_xlabel(measure.unit)
    shown = _shown(bars)
    if not bars:
        axes.text(0.5, 0.5, NOT_AVAILABLE, transform=axes.transAxes, ha="center", va="center")
    if shown.high <= 0:  # nothing to measure: no ticks that would look like a scale
        axes.set_xticks([])
        axes.set_xlim(0, 1)
    else:
        longest = max(bar.longest for bar in bars)
        axes.set_xlim(0, shown.high + longest * FIGURE_ROOM)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(TICK_FORM)
    for place, bar in enumerate(bars):
        _draw_bar(axes, place, bar, shown)


def _draw_bar(axes: Axes, place: int, bar: Bar, shown: View) -> None:
    spread, style = bar.spread, bar.style
    end = min(max(bar.longest, spread.interval.high if spread.interval else 0.0), shown.high)
    at, offset = (end, place), (6, 0)
    axes.annotate(
        bar.figure, at, offset, textcoords="offset points", va="center", fontsize=SMALL_PT
    )
    if spread.mean is None:
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
    whisker(axes, spread.interval, place, shown)  # above the seeds, which would hide it


def _draw_seeds(axes: Axes, place: int, bar: Bar) -> None:
    """A point a seed, side by side across the bar."""
    values = list(bar.spread.by_seed.values())[:MOST_POINTS]
    middle = (len(values) - 1) / 2
    apart = JITTER * bar.thickness / max(1, len(values) - 1)
    size, edge = (4, 0.8) if len(values) <= FEW else (3, 0.6)
    at = [place + apart * (index - middle) for index in range(len(values))]
    look = {"markerfacecolor": "white", "markeredgecolor": "black", "markeredgewidth": edge}
    draw_points(axes, values, at, bar.style, size, zorder=4, **look)
