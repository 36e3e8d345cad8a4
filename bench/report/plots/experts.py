"""experts: how evenly the routers of mixtures spread their tokens, while training."""

from collections.abc import Mapping
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from bench.merge.curves import Band, band_over_steps, seed_lines, steps
from bench.merge.sections import Arm
from bench.report.plots.canvas import picture
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.legend import draw_legend, legend_height_in
from bench.report.plots.style import TICK_FORM, TICK_STEPS, line_look
from bench.report.plots.whiskers import air

NAME = "experts"

PANEL_IN, FRAME_IN = 1.5, 0.6
AIR, END_ROOM = 0.06, 0.015  # around the lines and behind them, as shares of what is shown
LEAST_RANGE = 0.02  # of an axis, in its own unit: less is no difference that a reader should see

CAPTION = (
    "How the routers of mixtures spread tokens over experts, on the validation windows; means over "
    "seeds. Busiest expert: its load over an equal share, the highest of any block; 1 is perfect "
    "balance. Load is the tokens that chose an expert, or its weights where all are visited. "
    "Router entropy: of a token's scores, mean over tokens and blocks; 0 is one expert alone, "
    "ln(experts) all alike. Neither axis starts at 0."
)


@dataclass(frozen=True)
class Panel:
    label: str
    bands: Mapping[str, Band]  # by the arm's label


PANELS = (
    ("expert_load_max", "busiest expert\n(equal share = 1)"),
    ("router_entropy", "router entropy\n(nats)"),
)


def experts(scene: Scene) -> Drawing | None:
    """None where no arm has experts, or its curves are of a version that did not watch them."""
    panels = [Panel(label, _bands(scene.arms, figure)) for figure, label in PANELS]
    panels = [panel for panel in panels if panel.bands]
    if not panels:
        return None
    shown = [arm for arm in scene.arms if any(arm.label in panel.bands for panel in panels)]
    labels = [arm.label for arm in shown]

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(panels), 1, sharex=True, squeeze=False)
        for axes, panel in zip(grid.flat, panels, strict=True):
            _draw_panel(axes, panel, scene, shown)
        grid[-1, 0].set_xlabel("training steps")
        grid[-1, 0].xaxis.set_major_locator(MaxNLocator(nbins=7, steps=TICK_STEPS, integer=True))
        grid[-1, 0].xaxis.set_major_formatter(TICK_FORM)
        figure.align_ylabels(grid[:, 0])
        draw_legend(figure, [Line2D([], [], **line_look(scene.look(arm))) for arm in shown], labels)

    return scene.drawing(
        NAME,
        CAPTION,
        f"Line charts of the load of the busiest expert and of the routers' entropy against "
        f"training steps: {', '.join(labels)}.",
        picture(PANEL_IN * len(panels) + FRAME_IN + legend_height_in(labels), scene.title, draw),
    )


def _bands(arms: tuple[Arm, ...], figure: str) -> dict[str, Band]:
    bands = {
        arm.label: band_over_steps(list(seed_lines(arm, steps, figure).values())) for arm in arms
    }
    return {label: band for label, band in bands.items() if band is not None}


def _draw_panel(axes: Axes, panel: Panel, scene: Scene, shown: list[Arm]) -> None:
    axes.set_ylabel(panel.label)
    for index, arm in enumerate(shown):
        if (band := panel.bands.get(arm.label)) is not None:
            every = (0.03 * (index % 5), 0.2)
            axes.add_line(Line2D(band.x, band.mean, markevery=every, **line_look(scene.look(arm))))
    low = min(float(band.mean.min()) for band in panel.bands.values())
    high = max(float(band.mean.max()) for band in panel.bands.values())
    margin = air(low, high, AIR, AIR * LEAST_RANGE)
    axes.set_ylim(low - margin, high + margin)
    longest = max(float(band.x[-1]) for band in panel.bands.values())
    axes.set_xlim(0, (longest or 1.0) * (1 + END_ROOM))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, steps=TICK_STEPS))
    axes.yaxis.set_major_formatter(TICK_FORM)
