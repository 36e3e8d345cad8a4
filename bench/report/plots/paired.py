"""paired_differences: every arm against the baseline, seed by seed."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bench.merge.disturbed import short_note
from bench.records.columns import TIMINGS
from bench.report.family import Comparison, Family
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.rows import (
    FRAME_IN,
    difference_ticks,
    draw_zero,
    row_in,
    set_rows,
    write_beside,
)
from bench.report.plots.style import FAINT, SMALL_PT, Style, marker_pt, wrapped
from bench.report.plots.whiskers import CUT_SHORT, View, view, whisker
from bench.report.plots.words import better_words, claim_words, margin_words, metric_words, percent
from bench.statistics.text import NOT_AVAILABLE, sentences

NAME = "paired_differences"

# Within a row, from top (-0.5) to bottom (0.5): the seeds, below them the mean.
SEEDS_FROM, SEEDS_TO, MEAN_AT = -0.36, 0.1, 0.3
TICKS = 6
FEW = 10  # seeds whose points have room for their full size

CAPTION = (
    "Difference in {name} from {baseline}, paired by seed. Small points: one a seed, in each row "
    "from seed {first} at the top to seed {last} at the bottom; large points: their mean, with "
    "its simultaneous {each} t interval{margin}. {better} At the right: the verdicts."
)


def paired_differences(scene: Scene) -> Drawing | None:
    """None without a baseline, or without a single pair."""
    family, found = scene.family, scene.comparisons
    seeds = sorted({seed for comparison in found for seed in comparison.contrast.by_seed})
    if family is None or not seeds:
        return None
    shown = _shown(found, family)
    labels = [wrapped(comparison.arm.label) for comparison in found]
    rows_in = len(labels) * row_in(labels, 2)
    name, unit = metric_words(family.metric)
    mark = scene.section.timing.mark(family.metric)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.set_xlabel(f"difference in {name}{f' ({unit})' if unit else ''} {mark}".rstrip())
        set_rows(axes, labels)
        draw_zero(axes, family.margin, shown)
        difference_ticks(axes, TICKS)
        for place, comparison in enumerate(found):
            _draw_row(axes, place, comparison, scene.look(comparison.arm), seeds, shown)
            write_beside(axes, place, comparison.told, bold=True)
            if place:
                axes.axhline(place - 0.5, color=FAINT, linewidth=0.7, zorder=0)

    return scene.drawing(
        NAME,
        sentences(
            _caption(family, found, seeds, shown),
            short_note(scene.section.timing) if family.metric in TIMINGS else "",
        ),
        f"Differences in {name} from {family.baseline.label}, one point a seed. {_means(found)}.",
        picture(rows_in + FRAME_IN, scene.title, draw),
    )


def _shown(found: list[Comparison], family: Family) -> View:
    figures = [0.0, *(value for each in found for value in each.contrast.values)]
    if family.margin is not None:
        figures += [-family.margin, family.margin]
    return view(figures, [each.contrast.interval for each in found])


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
    axes.plot(
        contrast.values,
        [height[seed] for seed in contrast.by_seed],
        linestyle="none",
        marker=style.marker,
        markersize=marker_pt(style, 4 if len(seeds) <= FEW else 2.5),
        color=style.colour,
        markerfacecolor="white",
        markeredgewidth=1,
        zorder=4,
    )
    whisker(axes, contrast.interval, place + MEAN_AT, shown)
    axes.plot(
        contrast.mean,
        place + MEAN_AT,
        linestyle="none",
        marker=style.marker,
        markersize=marker_pt(style, 7),
        color=style.colour,
        markeredgecolor="black",
        markeredgewidth=0.7,
        zorder=6,
    )


def _caption(family: Family, found: list[Comparison], seeds: list[int], shown: View) -> str:
    intervals = [each.contrast.interval for each in found]
    cut = any(shown.cuts(interval) for interval in intervals if interval is not None)
    return sentences(
        CAPTION.format(
            name=metric_words(family.metric)[0],
            baseline=family.baseline.label,
            first=seeds[0],
            last=seeds[-1],
            each=percent(family.confidence),
            margin=margin_words(family),
            better=better_words(family.metric),
        ),
        claim_words(family),
        CUT_SHORT if cut else "",
    )


def _means(found: list[Comparison]) -> str:
    return ", ".join(
        f"{each.arm.label}: "
        + (NOT_AVAILABLE if each.contrast.mean is None else f"mean {each.contrast.mean:+.4g}")
        for each in found
    )
