"""loss_steps, loss_tokens, loss_seconds, loss_flops: validation loss while training."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.merge.curves import (
    Band,
    Cost,
    SeedCurve,
    band_over_seconds,
    band_over_steps,
    flops,
    seconds,
    seed_lines,
    steps,
    tokens,
    visible_range,
)
from bench.report.family import TIME
from bench.report.plots.axes import air, draw_legend, legend_height_in
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import TICK_FORM, TICK_STEPS, Style, first_seeds, line_look
from bench.report.targets import LOSS
from bench.report.words import losses, metric_words, n_words, times_words
from bench.statistics.interval import CONFIDENCE, half_width
from bench.statistics.text import sentences

PLOT_IN = 3.4  # height of the axes with their labels
TICKS = 7  # on the x-axis at most: so many fit with 100,000,000 steps
# Air above and below the visible losses, as a share of their range, and at least.
MARGIN, LEAST_MARGIN = 0.05, 0.005
END_ROOM = 0.015  # for half a marker behind the last evaluation, as a share of the x-range
# Distance of two markers on a line as a share of the axes' diagonal; arms start one after another,
# so that markers of lines that run together do not cover each other.
MARKER_EVERY, MARKER_SHIFT, SHIFTS = 0.14, 0.03, 5
THIN_ARMS = 6  # with more, single seeds would hide the means
THIN_SEEDS = 10  # drawn of each arm: more are a smear, and the band says what they would

CAPTION = (
    "Thick lines: mean over seeds ({n}); bands: 95 % t interval of the mean at each point, none "
    "with fewer than two seeds (against time: three), cut off where the axis ends{thin}. The loss "
    "axis does not start at 0 and ends at the highest loss after the first tenth of the "
    "evaluations: untrained models lie far above it."
)


@dataclass(frozen=True)
class Axis:
    file: str
    against: str  # in words
    label: str  # with a place for the unit's prefix
    cost: Cost
    band: Callable[[Sequence[SeedCurve]], Band | None]
    scales: tuple[tuple[float, str], ...] = ((1, ""),)  # (unit, its prefix), the largest first
    about: str = ""  # more for the caption

    def scale(self, longest: float) -> tuple[float, str]:
        """The largest unit of which there is one at least."""
        return next((each for each in self.scales if longest >= each[0]), self.scales[-1])


STEPS = Axis("loss_steps", "training steps", "training steps", steps, band_over_steps)
TOKENS = Axis(
    "loss_tokens",
    "training tokens",
    "training tokens{}",
    tokens,
    band_over_steps,
    scales=((1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)"), (1, "")),
)
SECONDS = Axis(
    "loss_seconds",
    "training time",
    "training time (s)",
    seconds,
    band_over_seconds,
    about="A mean ends where its shortest seed ends; between evaluations it is linear.",
)
FLOPS = Axis(
    "loss_flops",
    "training operations",
    "training operations ({}FLOP)",
    flops,
    band_over_steps,
    scales=((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")),
    about="Operations are those of forward and backward passes and of the optimizer, by formula.",
)
AXES = (STEPS, TOKENS, SECONDS, FLOPS)


@dataclass(frozen=True)
class ArmCurve:
    label: str
    style: Style
    lines: list[SeedCurve]  # one a seed
    band: Band | None

    def margin(self) -> np.ndarray | None:
        """Half the width of the band."""
        if self.band is None or self.band.sd is None:
            return None
        return half_width(1.0, len(self.lines), CONFIDENCE) * self.band.sd


def arm_curves(scene: Scene, axis: Axis) -> list[ArmCurve]:
    """The arms that have a curve against this axis."""
    curves = []
    for arm in scene.arms:
        lines = list(seed_lines(arm, axis.cost).values())
        if lines:
            curves.append(ArmCurve(arm.label, scene.look(arm), lines, axis.band(lines)))
    return curves


def loss_graph(scene: Scene, axis: Axis) -> Drawing | None:
    """None if no arm has a curve against this axis: one evaluation is a point."""
    curves = arm_curves(scene, axis)
    if all(len(line.x) < 2 for curve in curves for line in curve.lines):
        return None
    labels = [curve.label for curve in curves]
    mark = scene.section.timing.mark(TIME) if axis is SECONDS else ""
    longest = max(float(line.x[-1]) for curve in curves for line in curve.lines)
    unit, prefix = axis.scale(longest)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlabel(f"{axis.label.format(prefix)} {mark}".rstrip())
        axes.set_ylabel(metric_words(scene.section.setup, LOSS, "validation loss"))
        for index, curve in enumerate(curves):
            if len(curves) <= THIN_ARMS or curve.band is None:
                _draw_seeds(axes, curve, unit)
            _draw_mean(axes, curve, index, unit)
        _limit_losses(axes, curves)
        axes.set_xlim(0, (longest or 1.0) / unit * (1 + END_ROOM))
        locator = MaxNLocator(nbins=TICKS, steps=TICK_STEPS, integer=axis is STEPS)
        axes.xaxis.set_major_locator(locator)
        axes.xaxis.set_major_formatter(TICK_FORM)
        samples = [Line2D([], [], **line_look(curve.style)) for curve in curves]
        draw_legend(figure, samples, labels)

    what = f"Validation loss against {axis.against}."
    times = f"{times_words(scene.section)}." if axis is SECONDS else ""
    return scene.drawing(
        axis.file,
        sentences(what, times, axis.about, _how(curves)),
        f"Line chart. {what} {losses(scene.section)}.",
        picture(PLOT_IN + legend_height_in(labels), scene.title, draw),
    )


def _how(curves: Sequence[ArmCurve]) -> str:
    most = max(len(curve.lines) for curve in curves)
    seeds = f"; thin lines: single seeds that ended ok{first_seeds(most, THIN_SEEDS)}"
    thin = seeds if len(curves) <= THIN_ARMS else ""
    return CAPTION.format(n=n_words(len(curve.lines) for curve in curves), thin=thin)


def _draw_seeds(axes: Axes, curve: ArmCurve, unit: float) -> None:
    style = curve.style
    seeds = [np.column_stack((line.x / unit, line.y)) for line in curve.lines[:THIN_SEEDS]]
    thin = LineCollection(seeds, colors=style.colour, linewidths=0.6, alpha=0.5, zorder=2)
    axes.add_collection(thin, autolim=False)


def _draw_mean(axes: Axes, curve: ArmCurve, index: int, unit: float) -> None:
    style = curve.style
    if curve.band is None:
        return
    x, mean, margin = curve.band.x / unit, curve.band.mean, curve.margin()
    if margin is not None:
        low, high = mean - margin, mean + margin
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0, zorder=1)
    start = MARKER_SHIFT * (index % SHIFTS)
    every = (start, MARKER_EVERY)
    axes.add_line(Line2D(x, mean, markevery=every, zorder=3, **line_look(style)))


def _limit_losses(axes: Axes, curves: Sequence[ArmCurve]) -> None:
    """By the seeds alone: the interval of two of them would leave no room for anything else."""
    shown = visible_range([line for curve in curves for line in curve.lines], [])
    assert shown is not None  # every curve has a line
    low, high = shown
    margin = air(low, high, MARGIN, LEAST_MARGIN)
    axes.set_ylim(low - margin, high + margin)
