"""Line charts one below another, over one x-axis: a line an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.merge.raw import Array
from bench.report.plots.axes import air, draw_legend, legend_height_in
from bench.report.plots.canvas import Files, picture
from bench.report.plots.drawing import Scene
from bench.report.plots.style import TICK_FORM, TICK_STEPS, line_look

STRIP_IN, FRAME_IN = 1.4, 0.6
AIR, END_ROOM = 0.06, 0.015  # around the lines and behind them, as shares of what is shown
LEAST_RANGE = 0.02  # of an axis, in its own unit: less is no difference that a reader should see


@dataclass(frozen=True)
class Strip:
    label: str  # of the y-axis
    lines: Mapping[str, tuple[Array, Array]]  # (x, y) by the arm's label
    from_zero: bool = False


def draw_strips(scene: Scene, strips: Sequence[Strip], x_label: str, *, integer: bool) -> Files:
    """With a legend of the arms that have a line."""
    labels = [arm.label for arm in scene.arms if any(arm.label in strip.lines for strip in strips)]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(strips), 1, sharex=True, squeeze=False)
        for axes, strip in zip(grid.flat, strips, strict=True):
            _draw_strip(axes, strip, labels, scene)
        longest = max(float(x[-1]) for strip in strips for x, _ in strip.lines.values())
        grid[-1, 0].set_xlabel(x_label)
        grid[-1, 0].set_xlim(0, (longest or 1.0) * (1 + END_ROOM))
        locator = MaxNLocator(nbins=7, steps=TICK_STEPS, integer=integer)
        grid[-1, 0].xaxis.set_major_locator(locator)
        grid[-1, 0].xaxis.set_major_formatter(TICK_FORM)
        figure.align_ylabels(grid[:, 0])
        samples = [Line2D([], [], **line_look(scene.looks[label])) for label in labels]
        draw_legend(figure, samples, labels)

    height_in = STRIP_IN * len(strips) + FRAME_IN + legend_height_in(labels)
    return picture(height_in, scene.title, draw)


def _draw_strip(axes: Axes, strip: Strip, labels: Sequence[str], scene: Scene) -> None:
    axes.set_ylabel(strip.label)
    for index, label in enumerate(labels):
        if label in strip.lines:
            every = (0.03 * (index % 5), 0.2)
            look = line_look(scene.looks[label])
            axes.add_line(Line2D(*strip.lines[label], markevery=every, **look))
    low = min(float(y.min()) for _, y in strip.lines.values())
    high = max(float(y.max()) for _, y in strip.lines.values())
    if strip.from_zero:
        axes.set_ylim(0, (high or 1.0) * (1 + AIR))
    else:
        margin = air(low, high, AIR, AIR * LEAST_RANGE)
        axes.set_ylim(low - margin, high + margin)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(TICK_FORM)
