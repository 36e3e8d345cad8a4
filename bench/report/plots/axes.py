"""What axes of several pictures have in common: points, intervals, rows, a legend."""

import math
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    MaxNLocator,
    NullFormatter,
    NullLocator,
    ScalarFormatter,
)

from bench.report.plots.style import (
    FAINT,
    GREY,
    SMALL_PT,
    TICK_STEPS,
    WIDTH_IN,
    Style,
    marker_pt,
)
from bench.statistics.contrast import Contrast
from bench.statistics.interval import Interval
from bench.statistics.text import IN_POWERS

# --- points and intervals

# The interval of two seeds is nine deviations wide to each side. An axis that held it would show
# nothing else: it goes this share of the figures' range beyond them, and an arrow tells the rest.
BEYOND = 0.6
AIR = 0.05  # at both ends, as a share of what is shown

FINEST = 1e-6  # of an axis, as a share of its largest figure

CAP_PT, ARROW_PT = 7, 5
INTERVAL = "_interval"  # label of the lines, which no legend shows
CUT_SHORT = "An arrow head: the interval goes on beyond the axis, as it does with few seeds."


@dataclass(frozen=True)
class View:
    """What an axis shows."""

    low: float
    high: float

    def cuts(self, *intervals: Interval | None) -> bool:
        known = (interval for interval in intervals if interval is not None)
        return any(each.low < self.low or each.high > self.high for each in known)


def view(figures: Sequence[float], intervals: Iterable[Interval | None]) -> View:
    """All figures, and of the intervals what fits."""
    low, high = min(figures, default=0.0), max(figures, default=0.0)
    room = BEYOND * ((high - low) or abs(high) or 1.0)
    ends = [interval for interval in intervals if interval is not None]
    shown_low = min([low, *(max(low - room, interval.low) for interval in ends)])
    shown_high = max([high, *(min(high + room, interval.high) for interval in ends)])
    air = AIR * ((shown_high - shown_low) or abs(high) or 1.0)
    return View(shown_low - air, shown_high + air)


def view_of(contrasts: Sequence[Contrast], margin: float | None) -> View:
    """No difference, every seed's, and the band of the margin."""
    band = [] if margin is None else [-margin, margin]
    seeds = (value for contrast in contrasts for value in contrast.values)
    return view([0.0, *seeds, *band], [contrast.interval for contrast in contrasts])


def air(low: float, high: float, share: float, least: float) -> float:
    """Room beyond each end of what an axis shows: a share of its range, and at least so much.

    Beside large figures no less than a double, and a tick's label, can tell from nothing.
    """
    return max(share * (high - low), least, FINEST * max(abs(low), abs(high)))


def whisker(axes: Axes, interval: Interval | None, at: float, shown: View) -> None:
    """An interval as a horizontal line at height `at`, cut off where the axis ends."""
    if interval is None or interval.low > shown.high or interval.high < shown.low:
        return
    low, high = max(interval.low, shown.low), min(interval.high, shown.high)
    axes.plot([low, high], [at, at], color="black", linewidth=1.3, zorder=5, label=INTERVAL)
    for end, whole, arrow in ((low, interval.low, "<"), (high, interval.high, ">")):
        marker, size = ("|", CAP_PT) if end == whole else (arrow, ARROW_PT)
        axes.plot(end, at, marker=marker, markersize=size, color="black", zorder=5, clip_on=False)


def draw_points(axes: Axes, x: Any, y: Any, style: Style, size_pt: float, **look: Any) -> None:
    """An arm's markers, without a line between them; x and y are numbers, or as many of each."""
    size = marker_pt(style, size_pt)
    axes.plot(x, y, linestyle="none", marker=style.marker, markersize=size, **look)


def draw_result(
    axes: Axes, x: float, y: float, style: Style, size_pt: float, *, face: str = ""
) -> None:
    """A filled marker with a black edge; one that stands back has a `face` and a coloured edge."""
    draw_points(
        axes,
        x,
        y,
        style,
        size_pt,
        markerfacecolor=face or style.colour,
        markeredgecolor=style.colour if face else "black",
        markeredgewidth=1.2 if face else 0.8,
        zorder=4 if face else 5,
    )


def draw_mean(axes: Axes, contrast: Contrast, at: float, style: Style, shown: View) -> None:
    """A mean difference with its interval, at height `at`; nothing where there is no pair."""
    whisker(axes, contrast.interval, at, shown)
    if contrast.mean is not None:
        look = {"color": style.colour, "markeredgecolor": "black", "markeredgewidth": 0.7}
        draw_points(axes, contrast.mean, at, style, 7, zorder=6, **look)


# --- rows: a label at the left, an axis in the middle, room for words at the right

# Inches: a line of a label, the air between two rows, and what a panel needs beside its rows.
LINE_IN, GAP_IN, FRAME_IN = 0.16, 0.16, 0.75
MARGIN = "_margin"  # label of the shaded band
# From so wide a range on, ticks of ratios are 1, 2, 5, 10 and not evenly spaced; then 1, 10, 100.
WIDE_RATIO, VAST_RATIO = 4.0, 50.0


def row_in(labels: Sequence[str], least_lines: int = 1) -> float:
    """Height of one row, so that the longest label has room."""
    return max(most_lines(labels), least_lines) * LINE_IN + GAP_IN


def most_lines(labels: Sequence[str]) -> int:
    return max((label.count("\n") + 1 for label in labels), default=1)


def set_rows(axes: Axes, labels: Sequence[str]) -> None:
    """Row i at y = i, the first on top."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(max(1, len(labels)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def draw_zero(axes: Axes, margin: float | None, shown: View) -> None:
    """The line of no difference, and around it the band of differences that do not matter."""
    axes.set_xlim(shown.low, shown.high)
    if margin is not None:
        low, high = max(-margin, shown.low), min(margin, shown.high)
        axes.axvspan(low, high, color=FAINT, linewidth=0, zorder=0, label=MARGIN)
    axes.axvline(0, color=GREY, linewidth=0.9, zorder=1)


def difference_ticks(axes: Axes, most: int) -> None:
    """Ticks with a minus sign and equally many decimals, on an axis that has its limits."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins=most, steps=TICK_STEPS))
    form = ScalarFormatter(useOffset=False)
    form.set_scientific(max(map(abs, axes.get_xlim())) >= IN_POWERS)
    axes.xaxis.set_major_formatter(form)


def ratio_ticks(axes: Axes, most: int, shown: View) -> None:
    """Places are logarithms, so that halving and doubling are equally far; labels are ratios."""
    low, high = math.exp(shown.low), math.exp(shown.high)
    if high / low < WIDE_RATIO:
        ticks = list(MaxNLocator(nbins=most, steps=TICK_STEPS).tick_values(low, high))
    else:
        parts = (1, 2, 5) if high / low < VAST_RATIO else (1,)
        powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        ticks = [part * 10.0**power for power in powers for part in parts]
    kept = [tick for tick in ticks if low <= tick <= high]
    axes.xaxis.set_major_locator(FixedLocator([math.log(tick) for tick in kept]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{math.exp(value):.10g}×"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())


def write_beside(
    axes: Axes, place: int, text: str, up_pt: float = 0, *, bold: bool = False
) -> None:
    """To the right of the axes, at the height of a row."""
    axes.annotate(
        text,
        (1, place),
        xycoords=("axes fraction", "data"),
        xytext=(10, up_pt),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=SMALL_PT,
        fontweight="bold" if bold else "normal",
    )


# --- the legend below a picture: as many columns as its longest label allows

ROW_IN = 0.2
# Inches that a character of a label and the rest of its entry take.
CHARACTER_IN, SAMPLE_IN = 0.075, 0.65
LEGEND_WIDTH = 80  # characters before a label takes a second line


def legend_height_in(labels: Sequence[str]) -> float:
    return _legend_rows(labels) * most_lines([*map(_filled, labels)]) * ROW_IN


def draw_legend(figure: Figure, samples: Sequence[Line2D], labels: Sequence[str]) -> None:
    for sample, label in zip(samples, labels, strict=True):
        sample.set_label(_filled(label))
    figure.legend(
        handles=list(samples),
        loc="outside lower center",
        ncols=math.ceil(len(labels) / _legend_rows(labels)),  # columns of equal length
        frameon=False,
        handlelength=3.5,
    )


def _legend_rows(labels: Sequence[str]) -> int:
    longest = max((len(label) for label in labels), default=0)
    fitting = max(1, int(WIDTH_IN / (longest * CHARACTER_IN + SAMPLE_IN)))
    return max(1, math.ceil(len(labels) / fitting))


def _filled(label: str) -> str:
    return textwrap.fill(label, LEGEND_WIDTH)
