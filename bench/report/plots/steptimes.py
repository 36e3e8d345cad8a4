"""step_times: how long single training steps took."""

from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from bench.merge.arms import Arm
from bench.merge.raw import MOST_CELLS, Array, StepTimes, clean_cells, pooled, step_times
from bench.report.family import TIME
from bench.report.plots.axes import FRAME_IN, row_in, set_rows, write_beside
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import TICK_FORM, TICK_STEPS, Style, wrapped
from bench.report.words import percent
from bench.statistics.text import NOT_AVAILABLE, of_measure, sentences, span, write

NAME = "step_times"

BINS = 90  # of the whole axis
SHARES = (0.5, 0.9, 0.99)  # the quantiles that the tables have
# The axis holds all but this share of each arm's steps at either end: one of 100,000 that met a
# garbage collection would squeeze all others into a line.
BEYOND = 0.001
AIR = 0.04  # at both ends, as a share of what is shown
LEAST_AIR = 1.001  # as a factor: a single step, or steps that all took as long, have no range
HALF = 0.38  # of a row's height, that the highest bin has
TINT_ALPHA = 0.35

CAPTION = (
    "Raw times of training steps; the wider, the more steps took so long. Black lines: median; "
    "ticks: 90th and 99th percentile; figures: median. Of each configuration {runs}; a sample that "
    "spans several steps counts as so many of its mean. The axis is logarithmic and leaves out the "
    "{beyond} of each configuration's steps that are fastest and slowest."
)


@dataclass(frozen=True)
class ArmTimes:
    arm: Arm
    times: StepTimes
    cells: int  # that were read


def arm_times(scene: Scene) -> list[ArmTimes]:
    """The arms of which step times can be read, from their first undisturbed cells."""
    found: list[ArmTimes] = []
    if not scene.section.timing.has("step_time_ms_p50"):
        return found
    for arm in scene.arms:
        read = (step_times(cell, scene.merged) for cell in clean_cells(arm))
        parts = [times for times in read if times is not None]
        if parts:
            found.append(ArmTimes(arm, pooled(parts), len(parts)))
    return found


def quantiles(times: StepTimes, shares: tuple[float, ...]) -> Array:
    """The least time that this share of the steps did not exceed (ms); steps are weights."""
    order = np.argsort(times.time_ms, kind="stable")
    reached = np.cumsum(times.steps[order])
    places = np.searchsorted(reached, np.asarray(shares) * reached[-1])
    found: Array = times.time_ms[order][np.minimum(places, len(order) - 1)]
    return found


def step_time_graph(scene: Scene) -> Drawing | None:
    """None where no cell has a file of step times that can be read."""
    found = arm_times(scene)
    if not found:
        return None
    labels = [wrapped(each.arm.label) for each in found]
    rows_in = len(found) * max(0.5, row_in(labels))
    ends = [quantiles(each.times, (BEYOND, 1 - BEYOND)) for each in found]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    air = max(LEAST_AIR, (high / low) ** AIR)
    low, high = low / air, high * air

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        mark = scene.section.timing.mark(TIME)
        axes.set_xlabel(f"time of one training step (ms) {mark}".rstrip())
        set_rows(axes, labels)
        axes.set_xscale("log")
        axes.set_xlim(low, high)
        _ticks(axes, low, high)
        for place, each in enumerate(found):
            _draw(axes, place, each, scene.look(each.arm), np.geomspace(low, high, BINS + 1))

    return scene.drawing(
        NAME,
        _caption(scene, found),
        f"Distributions of step times. {_alt(found)}.",
        picture(rows_in + FRAME_IN, scene.title, draw),
    )


def _draw(axes: Axes, place: int, each: ArmTimes, style: Style, edges: Array) -> None:
    counts, _ = np.histogram(each.times.time_ms, edges, weights=each.times.steps)
    there = np.flatnonzero(counts)
    first, last = there[0], there[-1] + 1
    counts, edges = counts[first:last], edges[first : last + 1]
    profile = np.repeat(HALF * counts / counts.max(), 2)
    axes.fill_between(
        np.repeat(edges, 2)[1:-1],
        place - profile,
        place + profile,
        facecolor=(style.colour, TINT_ALPHA),
        edgecolor=style.colour,
        linewidth=0.8,
        zorder=2,
    )
    times = quantiles(each.times, SHARES).tolist()
    for share, time in zip(SHARES, times, strict=True):
        reach, width = (HALF, 1.8) if share == 0.5 else (HALF / 2, 1.0)
        axes.vlines(time, place - reach, place + reach, color="black", linewidth=width, zorder=4)
    write_beside(axes, place, f"{write(times[0], of_measure)} ms")  # the median


def _ticks(axes: Axes, low: float, high: float) -> None:
    """Round numbers: 1, 2, 5, ... over a decade or more, evenly spaced ones below."""
    if high / low > 1e3:
        axes.xaxis.set_major_locator(LogLocator(numticks=7))
    elif high / low > 8:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=10))
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(TICK_FORM)
    axes.xaxis.set_minor_locator(NullLocator())


def _caption(scene: Scene, found: list[ArmTimes]) -> str:
    counts = {each.cells for each in found}
    clean = "undisturbed " if scene.section.timing.clean else ""
    runs = f"{span(counts)} {clean}{'run' if counts == {1} else 'runs'}"
    if any(len(each.arm.timed_by_seed) > MOST_CELLS for each in found):
        runs += ", the first by seed"
    missing = [arm.label for arm in scene.arms if arm not in [each.arm for each in found]]
    told = CAPTION.format(runs=runs, beyond=percent(BEYOND))
    return sentences(told, f"{NOT_AVAILABLE}: {', '.join(missing)}." if missing else "")


def _alt(found: list[ArmTimes]) -> str:
    return ", ".join(
        f"{each.arm.label}: median {write(median, of_measure)} ms, 99th percentile "
        f"{write(slow, of_measure)} ms"
        for each in found
        for median, slow in [quantiles(each.times, (0.5, 0.99)).tolist()]
    )
