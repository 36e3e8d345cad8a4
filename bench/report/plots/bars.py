"""comparison_graph.png: loss, training time, memory and inference time, a bar an arm."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from bench.report.columns import memory_columns
from bench.report.digits import NOT_AVAILABLE, Decimals, of_loss, of_measure, write
from bench.report.plots.canvas import Files, picture
from bench.report.plots.style import SMALL_PT, TICK_FORM, TICK_STEPS, Style, wrapped
from bench.report.sections import Section
from bench.report.statistics.spread import Spread

# Inches: a line of a label, the air between two bars, and what a panel needs beside its bars.
LINE_IN, GAP_IN, FRAME_IN = 0.16, 0.14, 0.75
LEAST_BARS_IN = 0.8
# A bar takes this share of an arm's room, but grows no thicker than so many inches.
BAR, THICKEST_IN = 0.72, 0.26
# Seeds are spread over this share of a bar's thickness, so that equal ones stay apart.
JITTER = 0.5
FEW = 3  # seeds that have room for a marker of full size
# Room to the right of the longest bar for its figure, as a share of the bar.
FIGURE_ROOM = 0.36
TINT = 0.35  # of the arm's colour in a bar's face, the rest is white: points stay visible


@dataclass(frozen=True)
class Panel:
    column: str  # of runs.csv
    title: str
    unit: str
    decimals: Decimals


def panels(device: str) -> tuple[Panel, ...]:
    """The published original's four comparisons, each with its unit."""
    memory = memory_columns(device)[0]
    whose = {
        "gpu_mem_allocated_peak_mib": ("GPU memory, peak", "MiB allocated by torch"),
        "host_rss_peak_mib": ("Host memory, peak", "MiB resident"),
    }
    return (
        Panel("val_loss_final", "Validation loss, final", "nats per token", of_loss),
        Panel("train_time_s", "Training time", "s", of_measure),
        Panel(memory, *whose[memory], of_measure),
        Panel("infer_time_ms_p50", "Inference time", "ms, median of a batch", of_measure),
    )


@dataclass(frozen=True)
class Bar:
    label: str
    style: Style
    spread: Spread
    thickness: float  # as a share of the room an arm has
    mark: str = ""  # after its figure


def comparison_graph(section: Section, title: str, looks: Mapping[str, Style]) -> Files:
    """The picture of one section."""
    labels = [wrapped(arm.label) for arm in section.arms]
    lines = max((label.count("\n") + 1 for label in labels), default=1)
    arm_in = lines * LINE_IN + GAP_IN
    rows_in = max(LEAST_BARS_IN, len(labels) * arm_in)
    thickness = BAR * min(1, THICKEST_IN * len(labels) / (BAR * rows_in))

    def draw(figure: Figure) -> None:
        grid = figure.subplots(2, 2, sharey=True)
        for axes, panel in zip(grid.flat, panels(section.key.device), strict=True):
            bars = [
                Bar(
                    label,
                    looks[arm.label],
                    arm.spread(panel.column),
                    thickness,
                    mark=section.timing.mark(panel.column),
                )
                for label, arm in zip(labels, section.arms, strict=True)
            ]
            _draw_panel(axes, panel, bars)

    return picture(2 * (rows_in + FRAME_IN), title, draw)


def _draw_panel(axes: Axes, panel: Panel, bars: Sequence[Bar]) -> None:
    axes.set_title(panel.title)
    axes.set_xlabel(panel.unit)
    axes.set_yticks(range(len(bars)), [bar.label for bar in bars])
    axes.set_ylim(max(1, len(bars)) - 0.5, -0.5)  # the first arm on top
    axes.tick_params(axis="y", length=0)
    longest = max((_reach(bar.spread) for bar in bars), default=0.0)
    if not bars:
        axes.text(0.5, 0.5, NOT_AVAILABLE, transform=axes.transAxes, ha="center", va="center")
    if longest <= 0:  # nothing to measure: no ticks that would look like a scale
        axes.set_xticks([])
        axes.set_xlim(0, 1)
    else:
        axes.set_xlim(0, longest * (1 + FIGURE_ROOM))
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
        axes.xaxis.set_major_formatter(TICK_FORM)
    for place, bar in enumerate(bars):
        _draw_bar(axes, place, bar, panel.decimals)


def _draw_bar(axes: Axes, place: int, bar: Bar, decimals: Decimals) -> None:
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
    if spread.sd is not None:  # above the seeds, which would hide it where there are many
        axes.errorbar(
            spread.mean, place, xerr=spread.sd, color="black", capsize=3, linewidth=1.2, zorder=5
        )
    _note(axes, _reach(spread), place, write(spread.mean, decimals) + bar.mark)


def _draw_seeds(axes: Axes, place: int, bar: Bar) -> None:
    """A point a seed, side by side across the bar."""
    values = list(bar.spread.by_seed.values())
    middle = (len(values) - 1) / 2
    apart = JITTER * bar.thickness / max(1, len(values) - 1)
    axes.plot(
        values,
        [place + apart * (index - middle) for index in range(len(values))],
        linestyle="none",
        marker=bar.style.marker,
        markersize=4 if len(values) <= FEW else 3,
        markerfacecolor="white",
        markeredgecolor="black",
        markeredgewidth=0.8 if len(values) <= FEW else 0.6,
        zorder=4,
    )


def _reach(spread: Spread) -> float:
    """How far a bar, its error bar and its points go."""
    if spread.mean is None:
        return 0.0
    return max(spread.mean + (spread.sd or 0.0), *spread.by_seed.values())


def _note(axes: Axes, x: float, place: int, text: str) -> None:
    axes.annotate(
        text,
        (x, place),
        xytext=(6, 0),
        textcoords="offset points",
        verticalalignment="center",
        fontsize=SMALL_PT,
    )
