"""gpu_over_time: memory, power and clock of the GPU during one cell of each arm."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.merge.disturbed import short_note
from bench.merge.raw import GpuReadings, Reading, clean_cells, gpu_readings
from bench.merge.sections import Arm
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.legend import draw_legend, legend_height_in
from bench.report.plots.style import TICK_FORM, TICK_STEPS, Style, line_look, marker_pt
from bench.statistics.text import sentences

NAME = "gpu_over_time"

PANEL_IN, FRAME_IN = 1.25, 0.6
POINTS = 300  # of one line: more than a printed one shows
AIR, END_ROOM = 0.06, 0.01  # above and behind the lines, as shares of what is shown

CAPTION = (
    "Readings of the GPU from outside while one cell ran, from its launch: {panels}. Of each arm "
    "its first {clean}seed that was sampled ({seeds}).{means}{whose}"
)
OWN = " Memory is the cell's own."
WHOLE = " Memory is that of the whole device where the cell's own was not told."


@dataclass(frozen=True)
class ArmReadings:
    arm: Arm
    seed: int
    readings: GpuReadings


@dataclass(frozen=True)
class Panel:
    label: str
    words: str
    lines: list[tuple[Arm, Reading]]


def arm_readings(scene: Scene) -> list[ArmReadings]:
    """The arms that were sampled, each with its first undisturbed cell that was."""
    found = []
    for arm in scene.arms:
        read = ((cell.seed, gpu_readings(cell, scene.merged)) for cell in clean_cells(arm))
        first = next(((seed, readings) for seed, readings in read if readings), None)
        if first is not None and first[1] is not None:
            found.append(ArmReadings(arm, first[0], first[1]))
    return found


def gpu_graph(scene: Scene) -> Drawing | None:
    """None where nothing was sampled."""
    found = arm_readings(scene)
    panels = _panels(found)
    if not panels:
        return None
    labels = [each.arm.label for each in found]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, panel, scene)
        last = max(reading.time_s[-1] for panel in panels for _, reading in panel.lines)
        grid[-1, 0].set_xlabel("time since the launch of the cell (s)")
        grid[-1, 0].set_xlim(0, (last or 1.0) * (1 + END_ROOM))
        grid[-1, 0].xaxis.set_major_locator(MaxNLocator(nbins=7, steps=TICK_STEPS))
        grid[-1, 0].xaxis.set_major_formatter(TICK_FORM)
        figure.align_ylabels(grid[:, 0])
        draw_legend(figure, [_line([], [], scene.look(each.arm)) for each in found], labels)

    height_in = PANEL_IN * len(panels) + FRAME_IN + legend_height_in(labels)
    words = ", ".join(panel.words for panel in panels)
    return scene.drawing(
        NAME,
        sentences(_caption(scene, found, panels), short_note(scene.section.timing)),
        f"Line charts of the GPU's {words} over time, by arm: {', '.join(labels)}.",
        picture(height_in, scene.title, draw),
    )


def _panels(found: Sequence[ArmReadings]) -> list[Panel]:
    chosen: tuple[tuple[str, str, Callable[[GpuReadings], Reading | None]], ...] = (
        ("memory\n(MiB)", "memory", lambda readings: readings.memory_mib),
        ("power\n(W)", "power", lambda readings: readings.power_w),
        ("SM clock\n(MHz)", "clock of its processors", lambda readings: readings.sm_clock_mhz),
    )
    panels = []
    for label, words, of in chosen:
        read = [(each.arm, of(each.readings)) for each in found]
        lines = [(arm, reading) for arm, reading in read if reading is not None]
        if lines:
            panels.append(Panel(label, words, lines))
    return panels


def _draw_panel(axes: Axes, panel: Panel, scene: Scene) -> None:
    axes.set_ylabel(panel.label)
    drawn = [(arm, thinned(reading)) for arm, reading in panel.lines]
    for index, (arm, reading) in enumerate(drawn):
        line = _line(reading.time_s, reading.value, scene.look(arm))
        line.set_markevery((0.03 * (index % 5), 0.2))
        axes.add_line(line)
    high = max(float(reading.value.max()) for _, reading in drawn) or 1.0
    axes.set_ylim(0, high * (1 + AIR))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(TICK_FORM)


def _line(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray, look: Style) -> Line2D:
    return Line2D(x, y, **line_look(look) | {"linewidth": 1.1, "markersize": marker_pt(look, 4)})


def thinned(reading: Reading) -> Reading:
    """At most POINTS means over equal stretches of time; a shorter series as it is."""
    time, value = reading.time_s, reading.value
    if len(time) <= POINTS:
        return reading
    edges = np.linspace(time[0], time[-1], POINTS + 1)
    where = np.clip(np.searchsorted(edges, time, side="right") - 1, 0, POINTS - 1)
    counts = np.bincount(where, minlength=POINTS)
    kept = counts > 0
    times = np.bincount(where, time, POINTS)[kept] / counts[kept]
    return Reading(times, np.bincount(where, value, POINTS)[kept] / counts[kept])


def _caption(scene: Scene, found: Sequence[ArmReadings], panels: Sequence[Panel]) -> str:
    seeds = sorted({each.seed for each in found})
    named = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
    longest = max(
        (reading for panel in panels for _, reading in panel.lines),
        key=lambda reading: len(reading.time_s),
    )
    stretch = float(longest.time_s[-1] - longest.time_s[0]) / POINTS
    means = len(longest.time_s) > POINTS
    own = [each.readings.memory_is_own for each in found if each.readings.memory_mib]
    return CAPTION.format(
        panels=", ".join(panel.words for panel in panels),
        clean="undisturbed " if scene.section.timing.clean else "",
        seeds=named,
        means=f" Lines are means over up to {stretch:.2g} s." if means else "",
        whose="" if not own else OWN if all(own) else WHOLE,
    )
