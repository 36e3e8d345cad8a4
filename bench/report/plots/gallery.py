"""All pictures of a section, in the order in which a report shows them."""

from collections.abc import Callable, Mapping
from functools import partial

from bench.report.plots import (
    bars,
    differences,
    experts,
    forest,
    gpu,
    paired,
    pareto,
    sensitivity,
    steptimes,
)
from bench.report.plots.drawing import Drawing, Scene
from bench.report.plots.lines import AXES, loss_graph

# The stem of a picture -> what draws it, or says None where a section has nothing for it.
PICTURES: Mapping[str, Callable[[Scene], Drawing | None]] = {
    forest.NAME: forest.forest,
    paired.NAME: paired.paired_differences,
    differences.NAME: differences.difference_course,
    bars.NAME: bars.comparison_graph,
    **{axis.file: partial(loss_graph, axis=axis) for axis in AXES},
    sensitivity.NAME: sensitivity.sensitivity,
    experts.NAME: experts.experts,
    pareto.NAME: pareto.pareto,
    steptimes.NAME: steptimes.step_time_graph,
    gpu.NAME: gpu.gpu_graph,
}

# The stems of all pictures that a report may have.
NAMES = tuple(PICTURES)


def draw_all(scene: Scene) -> list[Drawing]:
    """The pictures that the section has something for."""
    drawn = (draw(scene) for draw in PICTURES.values())
    return [drawing for drawing in drawn if drawing is not None]
