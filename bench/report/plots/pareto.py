"""pareto: final loss against training time and memory, and which arms no other beats in both."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from bench.merge.arms import Arm
from bench.merge.sections import Section
from bench.report.plots.axes import draw_legend, draw_points, draw_result, legend_height_in
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import (
    FAINT,
    GREY,
    MOST_POINTS,
    TICK_FORM,
    TICK_STEPS,
    Style,
    first_seeds,
    marker_sample,
)
from bench.report.words import loss_words, memory_words, metric_words, n_with_times
from bench.statistics.text import NOT_AVAILABLE, sentences

NAME = "pareto"

Seeds = tuple[list[float], list[float]]  # costs and losses
PLOT_IN = 3.0
TICKS = 5
AIR = 0.08  # around all points, as a share of their range
WIDE = 8.0  # a range of costs from which on the axis is logarithmic

CAPTION = (
    "{loss} against training time and against {memory}; left and down is better. "
    "Large points: mean over seeds ({n}); small ones: single seeds{few}. Filled: no other "
    "configuration is better in mean loss or mean cost and as good in the other; the line joins "
    "these. Grey (dominated): another one is. Neither axis starts at 0. Whether a difference is "
    "more than noise, the intervals of the other pictures tell."
)


@dataclass(frozen=True)
class ArmPoint:
    """Where one arm lies: means over its seeds."""

    arm: Arm
    cost: float
    loss: float


def means(section: Section, column: str) -> list[ArmPoint]:
    """The arms that have both figures."""
    found = []
    for arm in section.arms:
        cost, loss = arm.spread(column).mean, arm.spread(section.main_metric).mean
        if cost is not None and loss is not None:
            found.append(ArmPoint(arm, cost, loss))
    return found


def front(found: Sequence[ArmPoint]) -> list[ArmPoint]:
    """What no other point dominates (neither worse, and better in one), by rising cost."""
    best: list[ArmPoint] = []
    for point in sorted(found, key=lambda point: (point.cost, point.loss)):
        equal = best and (point.cost, point.loss) == (best[-1].cost, best[-1].loss)
        if not best or point.loss < best[-1].loss or equal:
            best.append(point)
    return best


def pareto(scene: Scene) -> Drawing | None:
    """None unless there are two arms to compare, by a figure of which less is better."""
    loss, setup = scene.section.main_metric, scene.section.setup
    memory = scene.section.memory[0]
    panels = [
        (f"training time (s) {scene.section.timing.mark('train_time_s')}".rstrip(), "train_time_s"),
        (f"{memory_words(scene.section)[0].lower()} (MiB)".replace("gpu", "GPU"), memory),
    ]
    found = [(label, column, means(scene.section, column)) for label, column in panels]
    if all(len(there) < 2 for _, _, there in found) or setup.columns[loss].more_is_better:
        return None
    labels = [arm.label for arm in scene.arms]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, 2, sharey=True)
        grid[0].set_ylabel(metric_words(setup, loss).replace(" (", "\n("))
        for axes, (label, column, there) in zip(grid, found, strict=True):
            axes.set_xlabel(label)
            _draw_panel(axes, there, column, loss, scene.looks)
        draw_legend(figure, [marker_sample(scene.look(arm), 8) for arm in scene.arms], labels)

    return scene.drawing(
        NAME,
        _caption(scene),
        f"Scatter plots. {_alt('time', found[0][2])} {_alt('memory', found[1][2])}",
        picture(PLOT_IN + legend_height_in(labels), scene.title, draw),
    )


def _draw_panel(
    axes: Axes, there: Sequence[ArmPoint], column: str, loss: str, looks: Mapping[str, Style]
) -> None:
    if not there:
        axes.text(0.5, 0.5, NOT_AVAILABLE, transform=axes.transAxes, ha="center")
        axes.set_xticks([])
        return
    best = front(there)
    costs, losses = [point.cost for point in best], [point.loss for point in best]
    axes.step(costs, losses, where="post", color=GREY, linewidth=1, linestyle=(0, (4, 2)), zorder=2)
    for point in there:
        small = _seeds(point.arm, column, loss)
        _draw_arm(axes, point, small, looks[point.arm.label], dominated=point not in best)
    seeds = (_seeds(point.arm, column, loss)[0] for point in there)
    _limit(axes, [*(point.cost for point in there), *chain.from_iterable(seeds)])


def _draw_arm(axes: Axes, point: ArmPoint, seeds: Seeds, style: Style, dominated: bool) -> None:
    look = {"markerfacecolor": "none", "markeredgecolor": style.colour, "markeredgewidth": 0.5}
    draw_points(axes, *seeds, style, 3, alpha=0.6, zorder=3, **look)
    draw_result(axes, point.cost, point.loss, style, 8, face=FAINT if dominated else "")


def _seeds(arm: Arm, column: str, loss: str) -> Seeds:
    """(costs, losses) of the first MOST_POINTS seeds that have both."""
    costs, losses = arm.spread(column).by_seed, arm.spread(loss).by_seed
    seeds = [seed for seed in costs if seed in losses][:MOST_POINTS]
    return [costs[seed] for seed in seeds], [losses[seed] for seed in seeds]


def _limit(axes: Axes, costs: Sequence[float]) -> None:
    low, high = min(costs), max(costs)
    if low > 0 and high / low > WIDE:
        axes.set_xscale("log")
        share = (high / low) ** AIR
        axes.set_xlim(low / share, high * share)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=TICKS))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        air = AIR * ((high - low) or high or 1.0)
        axes.set_xlim(low - air, high + air)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=TICKS, steps=TICK_STEPS))
    axes.xaxis.set_major_formatter(TICK_FORM)


def _caption(scene: Scene) -> str:
    most = max(arm.n_seeds for arm in scene.arms)
    failed = [arm.label for arm in scene.arms if arm.failed]
    return sentences(
        CAPTION.format(
            loss=loss_words(scene.section),
            memory=memory_words(scene.section)[2],
            n=n_with_times(scene.arms),
            few=first_seeds(most),
        ),
        f"Seeds that failed are in no mean: {', '.join(failed)}." if failed else "",
    )


def _alt(against: str, there: Sequence[ArmPoint]) -> str:
    best = front(there)
    rest = [point for point in there if point not in best]
    told = f"Not dominated in loss and {against}: {_names(best)}."
    return told + (f" Dominated: {_names(rest)}." if rest else "")


def _names(found: Sequence[ArmPoint]) -> str:
    return ", ".join(point.arm.label for point in found) or NOT_AVAILABLE
