"""gpu_over_time: memory, power and clock of the GPU during one run of each configuration."""

from collections.abc import Callable, Sequence

import numpy as np

from bench.merge.raw import GpuReadings, Reading, clean_cells, gpu_readings
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.strips import Strip, draw_strips
from bench.statistics.text import seed_words

NAME = "gpu_over_time"

POINTS = 300  # of one line: more than a printed one shows

CAPTION = (
    "Readings of the GPU from outside during one run of each configuration, from its launch: "
    "{figures}. Shown is the first {clean}seed that was sampled ({seeds}).{means}{whose}{together}"
)
OWN = " Memory is the run's own."
WHOLE = " Memory is that of the whole device where the run's own was not told."
TOGETHER = " Of a run with several GPUs it is memory and power of all, and the mean clock."

# (label of the axis, in words, where it is)
FIGURES: tuple[tuple[str, str, Callable[[GpuReadings], Reading | None]], ...] = (
    ("memory\n(MiB)", "memory", lambda readings: readings.memory_mib),
    ("power\n(W)", "power", lambda readings: readings.power_w),
    ("SM clock\n(MHz)", "clock of its processors", lambda readings: readings.sm_clock_mhz),
)


def arm_readings(scene: Scene) -> dict[str, tuple[int, GpuReadings]]:
    """Label of an arm that was sampled -> (seed, readings) of its first undisturbed cell."""
    found: dict[str, tuple[int, GpuReadings]] = {}
    for arm in scene.arms:
        for cell in clean_cells(arm):
            if readings := gpu_readings(cell, scene.merged):
                found[arm.label] = cell.seed, readings
                break
    return found


def gpu_graph(scene: Scene) -> Drawing | None:
    """None where nothing was sampled."""
    found = arm_readings(scene)
    strips, words = [], []
    readings: list[Reading] = []
    for y_label, figure, of in FIGURES:
        read = {label: of(figures) for label, (_, figures) in found.items()}
        known = {label: reading for label, reading in read.items() if reading is not None}
        if known:
            thin = {label: thinned(reading) for label, reading in known.items()}
            lines = {label: (line.time_s, line.value) for label, line in thin.items()}
            strips.append(Strip(y_label, lines, from_zero=True))
            words.append(figure)
            readings += known.values()
    if not strips:
        return None
    return scene.drawing(
        NAME,
        _caption(scene, list(found.values()), ", ".join(words), readings),
        f"Line charts of the GPU's {', '.join(words)} over time, by configuration: "
        f"{', '.join(found)}.",
        draw_strips(scene, strips, "time since the launch of the run (s)", integer=False),
    )


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


def _caption(
    scene: Scene,
    found: Sequence[tuple[int, GpuReadings]],
    words: str,
    readings: Sequence[Reading],
) -> str:
    longest = max(readings, key=lambda reading: len(reading.time_s)).time_s
    stretch = float(longest[-1] - longest[0]) / POINTS
    own = [figures.memory_is_own for _, figures in found if figures.memory_mib]
    return CAPTION.format(
        figures=words,
        clean="undisturbed " if scene.section.timing.clean else "",
        seeds=seed_words({seed for seed, _ in found}),
        means=f" Lines are means over up to {stretch:.2g} s." if len(longest) > POINTS else "",
        whose="" if not own else OWN if all(own) else WHOLE,
        together=TOGETHER if any(figures.of_several for _, figures in found) else "",
    )
