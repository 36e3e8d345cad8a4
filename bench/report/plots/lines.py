"""loss_steps.png and loss_seconds.png: validation loss while training."""

import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.curves import (
    Band,
    Cost,
    Line,
    band_over_seconds,
    band_over_steps,
    seconds,
    seed_lines,
    steps,
    visible_range,
)
from bench.report.digits import NOT_AVAILABLE
from bench.report.plots.canvas import Files, picture
from bench.report.plots.style import TICK_FORM, TICK_STEPS, WIDTH_IN, Style
from bench.report.sections import Section
from bench.report.taint import MARK

PLOT_IN = 3.4  # height of the axes with their labels
TICKS = 7  # on the x-axis at most: so many fit with 100,000,000 steps
LEGEND_ROW_IN = 0.2
# Inches that a character of a legend's label and the rest of its entry take.
CHARACTER_IN, SAMPLE_IN = 0.075, 0.65
LEGEND_WIDTH = 80  # characters before a label takes a second line
# Air above and below the visible losses, as a share of their range, and at least in nats.
MARGIN, LEAST_MARGIN = 0.05, 0.005
END_ROOM = 0.015  # for half a marker behind the last evaluation, as a share of the x-range
# Distance of two markers on a line as a share of the axes' diagonal; arms start one after another,
# so that markers of lines that run together do not cover each other.
MARKER_EVERY, MARKER_SHIFT, SHIFTS = 0.14, 0.03, 5


@dataclass(frozen=True)
class Axis:
    file: str
    label: str
    cost: Cost
    band: Callable[[Sequence[Line]], Band | None]


STEPS = Axis("loss_steps", "training steps", steps, band_over_steps)
SECONDS = Axis("loss_seconds", "training time (s)", seconds, band_over_seconds)


@dataclass(frozen=True)
class ArmCurve:
    label: str
    style: Style
    lines: list[Line]  # one a seed
    band: Band | None


def arm_curves(section: Section, axis: Axis, looks: Mapping[str, Style]) -> list[ArmCurve]:
    """The arms that have a curve against this axis."""
    curves = []
    for arm in section.arms:
        lines = list(seed_lines(arm, axis.cost).values())
        if lines:
            curves.append(ArmCurve(arm.label, looks[arm.label], lines, axis.band(lines)))
    return curves


def loss_graph(section: Section, axis: Axis, title: str, looks: Mapping[str, Style]) -> Files:
    """The picture of one section."""
    curves = arm_curves(section, axis, looks)
    longest = max((len(curve.label) for curve in curves), default=0)
    fitting = max(1, int(WIDTH_IN / (longest * CHARACTER_IN + SAMPLE_IN)))
    rows = math.ceil(len(curves) / fitting)
    mark = "" if axis is STEPS or section.timing.clean else MARK
    legend = [textwrap.fill(curve.label, LEGEND_WIDTH) for curve in curves]
    lines_a_row = max((text.count("\n") + 1 for text in legend), default=0)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlabel(f"{axis.label} {mark}".rstrip())
        axes.set_ylabel("validation loss (nats per token)")
        if not curves:
            axes.text(0.5, 0.5, NOT_AVAILABLE, transform=axes.transAxes, ha="center")
            axes.set_xticks([])
            axes.set_yticks([])
            return
        for index, curve in enumerate(curves):
            _draw(axes, curve, index)
        _limit(axes, curves, whole=axis is STEPS)
        figure.legend(
            handles=[_sample(*each) for each in zip(curves, legend, strict=True)],
            loc="outside lower center",
            ncols=math.ceil(len(curves) / rows),  # columns of equal length
            frameon=False,
            handlelength=3.5,
        )

    return picture(PLOT_IN + rows * lines_a_row * LEGEND_ROW_IN, title, draw)


def _draw(axes: Axes, curve: ArmCurve, index: int) -> None:
    style = curve.style
    for line in curve.lines:
        axes.plot(line.x, line.y, color=style.colour, linewidth=0.6, alpha=0.5, zorder=2)
    if curve.band is None:
        return
    band = curve.band
    if band.sd is not None:
        low, high = band.mean - band.sd, band.mean + band.sd
        axes.fill_between(band.x, low, high, color=style.colour, alpha=0.15, linewidth=0, zorder=1)
    start = MARKER_SHIFT * (index % SHIFTS)
    mean = Line2D(band.x, band.mean, markevery=(start, MARKER_EVERY), zorder=3, **_look(style))
    axes.add_line(mean)


def _limit(axes: Axes, curves: Sequence[ArmCurve], whole: bool) -> None:
    lines = [line for curve in curves for line in curve.lines]
    bands = [curve.band for curve in curves if curve.band is not None]
    shown = visible_range(lines, bands)
    assert shown is not None  # every curve has a line
    low, high = shown
    margin = max(LEAST_MARGIN, MARGIN * (high - low))
    axes.set_ylim(low - margin, high + margin)
    longest = max(float(line.x[-1]) for line in lines) or 1.0
    axes.set_xlim(0, longest * (1 + END_ROOM))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=TICKS, steps=TICK_STEPS, integer=whole))
    axes.xaxis.set_major_formatter(TICK_FORM)


def _sample(curve: ArmCurve, label: str) -> Line2D:
    """An arm's line as the legend shows it."""
    return Line2D([], [], label=label, **_look(curve.style))


def _look(style: Style) -> dict[str, Any]:
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "linewidth": 1.6,
        "marker": style.marker,
        "markersize": 5,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }
