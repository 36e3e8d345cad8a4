"""A picture of rows: a label at the left, an axis in the middle, room for words at the right."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, ScalarFormatter

from bench.report.plots.style import FAINT, GREY, SMALL_PT, TICK_STEPS
from bench.report.plots.whiskers import View
from bench.statistics.text import IN_POWERS, Decimals, fixed

# Inches: a line of a label, the air between two rows, and what a panel needs beside its rows.
LINE_IN, GAP_IN, FRAME_IN = 0.16, 0.16, 0.75
MARGIN = "_margin"  # label of the shaded band


def row_in(labels: Sequence[str], least_lines: int = 1) -> float:
    """Height of one row, so that the longest label has room."""
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    return max(lines, least_lines) * LINE_IN + GAP_IN


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


def signed(value: float, decimals: Decimals) -> str:
    """+0.0123, −0.0123."""
    return fixed(value, decimals(value), "+").replace("-", "−")
