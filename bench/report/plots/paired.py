"""paired_differences: every arm against the baseline, seed by seed."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.report.family import Comparison, Family
from bench.report.plots.axes import (
    CUT_SHORT,
    FRAME_IN,
    View,
    difference_ticks,
    draw_mean,
    draw_points,
    draw_zero,
    ratio_ticks,
    row_in,
    set_rows,
    view_of,
    write_beside,
)
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import FAINT, SMALL_PT, Style, wrapped
from bench.report.words import claim_words, contrast_words, difference_words, metric_name
from bench.statistics.contrast import Contrast
from bench.statistics.text import NOT_AVAILABLE, sentences

NAME = "paired_differences"

# Within a row, from top (-0.5) to bottom (0.5): the seeds, below them the mean.
SEEDS_FROM, SEEDS_TO, MEAN_AT = -0.36, 0.1, 0.3
TICKS = 6
FEW = 10  # seeds whose points have room for their full size

CAPTION = (
    "{what}, paired by {unit}. Small points: one a {unit}, in each row from {unit} {first} at the "
    "top to {unit} {last} at the bottom; large points: their {mean}, with its "
    "simultaneous {each} t interval{margin}. {better} At the right: the verdicts."
)


def paired_differences(scene: Scene) -> Drawing | None:
    """None without a baseline, or without a single pair; where seeds make none, there is none."""
    family, found = scene.family, scene.comparisons
    seeds = sorted({seed for comparison in found for seed in comparison.contrast.by_seed})
    if family is None or not seeds or not family.setup.is_paired:
        return None
    shown = view_of([comparison.contrast for comparison in found], family.limit)
    labels = [wrapped(comparison.arm.label) for comparison in found]
    rows_in = len(labels) * row_in(labels, 2)
    mark = scene.section.timing.mark(family.metric)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlabel(f"{contrast_words(family)} {mark}".rstrip())
        set_rows(axes, labels)
        draw_zero(axes, family.limit, shown)
        if family.relative:
            ratio_ticks(axes, TICKS, shown)
        else:
            difference_ticks(axes, TICKS)
        for place, comparison in enumerate(found):
            _draw_row(axes, place, comparison, scene.look(comparison.arm), seeds, shown)
            write_beside(axes, place, comparison.told, bold=True)
            if place:
                axes.axhline(place - 0.5, color=FAINT, linewidth=0.7, zorder=0)

    return scene.drawing(
        NAME,
        _caption(family, found, seeds, shown),
        f"Differences in {metric_name(family.setup, family.metric)} from {family.baseline.label}, "
        f"one point a {family.unit}. {_means(found)}.",
        picture(rows_in + FRAME_IN, scene.title, draw),
    )


def _draw_row(
    axes: Axes, place: int, comparison: Comparison, style: Style, seeds: list[int], shown: View
) -> None:
    contrast = comparison.contrast
    if contrast.mean is None:
        axes.annotate(NOT_AVAILABLE, (0, place), va="center", ha="center", fontsize=SMALL_PT)
        return
    apart = (SEEDS_TO - SEEDS_FROM) / max(1, len(seeds) - 1)
    first = SEEDS_FROM if len(seeds) > 1 else (SEEDS_FROM + SEEDS_TO) / 2
    height = {seed: place + first + apart * index for index, seed in enumerate(seeds)}
    at = [height[seed] for seed in contrast.by_seed]
    look = {"color": style.colour, "markerfacecolor": "white", "markeredgewidth": 1}
    draw_points(axes, contrast.values, at, style, 4 if len(seeds) <= FEW else 2.5, zorder=4, **look)
    draw_mean(axes, contrast, place + MEAN_AT, style, shown)


def _caption(family: Family, found: list[Comparison], seeds: list[int], shown: View) -> str:
    cut = shown.cuts(*(each.contrast.interval for each in found))
    return sentences(
        CAPTION.format(
            first=seeds[0], last=seeds[-1], unit=family.unit, **difference_words(family)
        ),
        claim_words(family),
        CUT_SHORT if cut else "",
    )


def _means(found: list[Comparison]) -> str:
    return ", ".join(
        f"{each.arm.label}: "
        + (
            NOT_AVAILABLE
            if each.contrast.mean is None
            else _mean(each.contrast, each.contrast.mean)
        )
        for each in found
    )


def _mean(contrast: Contrast, mean: float) -> str:
    return f"ratio {math.exp(mean):.4g}" if contrast.relative else f"mean {mean:+.4g}"
