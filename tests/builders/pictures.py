"""Pictures as figures, for the tests that read back what was drawn."""

from collections.abc import Iterator

import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox

from bench.matrix.claim_forms import Baseline, Claim
from bench.merge.asked import Asked
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.report.family import make_family
from bench.report.plots import canvas
from bench.report.plots.axes import INTERVAL
from bench.report.plots.canvas import Files
from bench.report.plots.drawing import Drawing, Scene, make_scene
from bench.report.plots.gallery import PICTURES
from bench.report.plots.style import styles
from tests.builders.results import Results


def scene_of(folder: Results, margin: float | None = None, metric: str = "val_loss_final") -> Scene:
    """The only section of a folder; with a margin, the claim is made against its first arm."""
    merged = merge([folder.write()])
    (section,) = make_sections(merged)
    claim = None
    if margin is not None:
        first = section.arms[0]
        baseline = Baseline(model=first.model, optimizer=first.optimizer)
        claim = Claim(baseline=baseline, metric=metric, margin=margin)
    asked = Asked(claim)
    family = make_family(section, asked, look=1)
    looks = styles(arm.label for arm in section.arms)
    return make_scene(section, family, merged, "", looks, asked)


class Draw:
    """Draws pictures of a scene, and keeps the figures instead of files."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.figures: list[Figure] = []
        monkeypatch.setattr(canvas, "save", self._save)

    def _save(self, figure: Figure, title: str) -> Files:
        figure.draw(renderer_of(figure))
        self.figures.append(figure)
        return Files(b"", b"")

    def __call__(self, scene: Scene, name: str) -> tuple[Figure, Drawing]:
        drawing = PICTURES[name](scene)
        assert drawing is not None
        return self.figures[-1], drawing

    def all(self, scene: Scene) -> dict[str, Figure]:
        """Every picture that the scene has something for."""
        found = {}
        for name, draw in PICTURES.items():
            if draw(scene) is not None:
                found[name] = self.figures[-1]
        return found


def renderer_of(figure: Figure):
    assert isinstance(figure.canvas, FigureCanvasAgg)
    return figure.canvas.get_renderer()


def texts_of(figure: Figure) -> list[tuple[str, Bbox]]:
    """Each visible text with its box, in pixels."""
    renderer = renderer_of(figure)
    hidden = {id(label) for axes in figure.axes for label in _unseen(axes)}
    found = [text for text in figure.findobj(Text) if text.get_text() and text.get_visible()]
    return [
        (text.get_text(), text.get_window_extent(renderer))
        for text in found
        if id(text) not in hidden
    ]


def _unseen(axes: Axes) -> Iterator[Text]:
    """The labels of ticks that lie outside of the axes, which matplotlib keeps but never draws."""
    for axis in (axes.xaxis, axes.yaxis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks():
            if not low <= tick.get_loc() <= high:
                yield from (tick.label1, tick.label2)


def whiskers(axes: Axes) -> list[tuple[float, float]]:
    """Both ends of every interval, in the order of drawing."""
    lines = [line for line in axes.lines if line.get_label() == INTERVAL]
    return [tuple(line.get_xdata()) for line in lines]


def arrows(axes: Axes) -> list[Line2D]:
    """The heads of intervals that go on beyond the axis."""
    return [line for line in axes.lines if not line.get_clip_on() and line.get_marker() in "<>"]


def points(axes: Axes, marker: str) -> list[list[float]]:
    """The x of each set of points with this marker, in the order of drawing."""
    return [
        list(line.get_xdata())
        for line in axes.lines
        if line.get_marker() == marker and line.get_clip_on()
    ]


def beside(axes: Axes) -> list[str]:
    return [text.get_text() for text in axes.texts]
