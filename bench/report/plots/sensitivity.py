"""sensitivity: what every trial came to over its learning rate, and which one was chosen."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from bench.merge.tuned import Trial, Tuning, tunings
from bench.report.plots.axes import air, draw_legend, draw_result, legend_height_in
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.style import GREY, TICK_FORM, Style, marker_sample
from bench.report.tuning import key_of
from bench.report.words import metric_name, metric_words
from bench.statistics.text import counted

NAME = "sensitivity"
PLOT_IN = 3.0
# A rate far too high ends at a multiple of the others' losses, and would press them together: the
# axis ends this many times the range from the best trial to the worst untuned one above the best.
TOP = 2.0
AIR = 0.06

CAPTION = (
    "Mean {metric} of each trial over {seeds} against {key}; the other settings vary with it. "
    "Filled: the chosen trial; in a ring: the untuned setting. Crosses at the top: trials with a "
    "mean above the axis, or with a seed that did not end ok."
)


def sensitivity(scene: Scene) -> Drawing | None:
    """None where nothing was tuned, no setting is a number, or more of the metric is better."""
    metric, setup = scene.asked.tuned_on, scene.section.setup
    found = tunings(scene.section, metric)
    key = key_of(found)
    if key is None or setup.columns[metric].more_is_better:
        return None
    looks = _looks(scene, found)
    models = list(dict.fromkeys(one.model for one in found))
    names = list(dict.fromkeys(one.optimizer for one in found))
    low, top = _ends(found)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
        grid[0].set_ylabel(metric_words(setup, metric).replace(" (", "\n("))
        for axes, model in zip(grid, models, strict=True):
            axes.set_title(model)
            axes.set_xlabel(key)
            for one in found:
                if one.model == model:
                    _draw_arm(axes, one, key, looks[one.optimizer], top)
            _limit(axes, low, top)
        draw_legend(figure, [marker_sample(looks[name], 7) for name in names], names)

    seeds = counted(found[0].seeds, "seed")
    return scene.drawing(
        NAME,
        CAPTION.format(metric=metric_name(setup, metric), seeds=seeds, key=key),
        f"Scatter plots of loss over {key}, one a model. {_alt(found, key)}",
        picture(PLOT_IN + legend_height_in(names), scene.title, draw),
    )


def _looks(scene: Scene, found: Sequence[Tuning]) -> Mapping[str, Style]:
    """An optimizer's look is that of its first arm in the other pictures."""
    looks: dict[str, Style] = {}
    for one in found:
        arm = one.untuned or one.tuned
        style = scene.looks[arm.label] if arm else next(iter(scene.looks.values()))
        looks.setdefault(one.optimizer, style)
    return looks


def _ends(found: Sequence[Tuning]) -> tuple[float, float]:
    """The lowest loss, and the highest one to show."""
    means = [trial.mean for one in found for trial in one.trials if trial.mean is not None]
    untuned = [one.trials[0].mean for one in found if one.trials[0].mean is not None]
    if not means:
        return 0.0, 1.0
    best = min(means)
    return best, min(max(means), best + TOP * (max(untuned, default=max(means)) - best))


def _draw_arm(axes: Axes, one: Tuning, key: str, style: Style, top: float) -> None:
    for trial in one.trials:
        value = trial.settings.get(key)
        if not isinstance(value, int | float):
            continue
        if trial.mean is None or trial.mean > top:
            axes.plot(value, top, "x", color=style.colour, markersize=6, clip_on=False, zorder=3)
            continue
        chosen = trial is one.best
        size_pt, face = (9, "") if chosen else (6, "none")
        draw_result(axes, value, trial.mean, style, size_pt, face=face)
        if trial.number == 1:
            axes.plot(
                value, trial.mean, "o", color=GREY, markerfacecolor="none", markersize=13, zorder=2
            )


def _limit(axes: Axes, low: float, top: float) -> None:
    margin = air(low, top, AIR, AIR if top == low else 0.0)
    axes.set_ylim(low - margin, top + margin)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(TICK_FORM)
    axes.xaxis.set_minor_formatter(NullFormatter())


def _alt(found: Sequence[Tuning], key: str) -> str:
    chosen = [(one.label, one.best) for one in found if one.best is not None]
    return " ".join(f"{label}: best at {_value(best, key)}." for label, best in chosen)


def _value(trial: Trial, key: str) -> str:
    value = trial.settings.get(key)
    return f"{value:g}" if isinstance(value, int | float) else "no such setting"
