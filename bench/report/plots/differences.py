"""difference_course: how far each arm is ahead of the baseline while both train."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.report.anytime import PLACES, Ahead, courses
from bench.report.family import TIME, Family
from bench.report.plots.axes import draw_legend, legend_height_in
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.lines import END_ROOM, FLOPS, SECONDS, STEPS, THIN_ARMS, Axis
from bench.report.plots.style import FAINT, GREY, TICK_FORM, TICK_STEPS, line_look
from bench.report.words import n_words, percent
from bench.statistics.text import sentences

NAME = "difference_course"

PANEL_IN = 2.1
TICKS = 7
# Of the means' range above and below them: a band of few seeds is wider than all else.
BEYOND = 0.75

CAPTION = (
    "Difference in validation loss from {baseline}, at the same {against}: mean over pairs of "
    "seeds ({n}), from a tenth of training on to where the first run of a pair ends. Losses are "
    "linear between evaluations: where these are few, early differences at equal operations or "
    "time are too large. {bands}Less is better. A description: the verdicts are those of the claim."
)
BANDS = (
    "Bands: t intervals that hold together at {places} places and for all configurations, at "
    "{level}; between places they are drawn through, and cut off where the axis ends; none with "
    "fewer than two pairs (against time: three). "
)


def difference_course(scene: Scene) -> Drawing | None:
    """None without a baseline or curves, and where seeds make no pairs."""
    family = scene.family
    if family is None or not family.setup.is_paired:
        return None
    panels = [(axis, _shown(scene, family, axis)) for axis in (STEPS, FLOPS, SECONDS)]
    panels = [(axis, found) for axis, found in panels if found]
    if not panels:
        return None
    arms = {each.arm.label: each.arm for _, found in panels for each in found}

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, squeeze=False)
        for axes, (axis, found) in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, axis, found, scene)
        samples = [Line2D([], [], **line_look(scene.look(arm))) for arm in arms.values()]
        draw_legend(figure, samples, list(arms))

    return scene.drawing(
        NAME,
        _caption(family, panels),
        f"Line charts of differences in validation loss from {family.baseline.label}, "
        f"{_ends(panels)}.",
        picture(PANEL_IN * len(panels) + legend_height_in(list(arms)), scene.title, draw),
    )


def _shown(scene: Scene, family: Family, axis: Axis) -> list[Ahead]:
    arms = {each.arm.arm_id for each in scene.shown(family)}
    found = courses(scene.section, family, axis.cost)
    return [course for course in found if course.arm.arm_id in arms]


def _draw_panel(axes: Axes, axis: Axis, found: Sequence[Ahead], scene: Scene) -> None:
    longest = max(float(course.x[-1]) for course in found)
    unit, prefix = axis.scale(longest)
    mark = scene.section.timing.mark(TIME) if axis is SECONDS else ""
    axes.set_xlabel(f"{axis.label.format(prefix)} {mark}".rstrip())
    axes.set_ylabel("difference")
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    for course in found:
        style = scene.look(course.arm)
        if course.half is not None and len(found) <= THIN_ARMS:
            ends = course.mean - course.half, course.mean + course.half
            axes.fill_between(course.x / unit, *ends, color=style.colour, alpha=0.15, linewidth=0)
        axes.plot(course.x / unit, course.mean, **line_look(style))
    low = min(0.0, *(float(course.mean.min()) for course in found))
    high = max(0.0, *(float(course.mean.max()) for course in found))
    room = BEYOND * ((high - low) or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.set_xlim(0, longest / unit * (1 + END_ROOM))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=TICKS, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(TICK_FORM)


def _caption(family: Family, panels: Sequence[tuple[Axis, Sequence[Ahead]]]) -> str:
    *first, last = (axis.against for axis, _ in panels)
    against = f"{', '.join(first)} and {last}" if first else last
    return sentences(
        CAPTION.format(
            baseline=family.baseline.label,
            against=against,
            n=n_words(course.n for _, found in panels for course in found),
            bands=_bands(family) if _has_bands(panels) else "",
        )
    )


def _bands(family: Family) -> str:
    return BANDS.format(places=PLACES, level=percent(1 - family.alpha * len(family.comparisons)))


def _has_bands(panels: Sequence[tuple[Axis, Sequence[Ahead]]]) -> bool:
    """Of more arms they would be a smear."""
    return max(len(found) for _, found in panels) <= THIN_ARMS


def _ends(panels: Sequence[tuple[Axis, Sequence[Ahead]]]) -> str:
    """Where each line begins and ends, for whoever does not see it."""
    return "; ".join(
        f"against {axis.against}: "
        + ", ".join(
            f"{each.arm.label} {each.mean[0]:+.4f} to {each.mean[-1]:+.4f}" for each in found
        )
        for axis, found in panels
    )
