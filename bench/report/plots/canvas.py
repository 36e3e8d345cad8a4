"""A matplotlib figure -> its files, without pyplot and whatever the reader's matplotlibrc says."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.report.plots.palette import reduced
from bench.report.plots.style import DPI, RC, WIDTH_IN

# Between panels, as a share of their width: the ticks of neighbours do not run together.
GAP = 0.06


@dataclass(frozen=True)
class Files:
    """One picture in two formats."""

    png: bytes  # WIDTH_IN inches wide, at DPI dots an inch
    svg: bytes  # letters as outlines: it looks the same where the font is missing


def picture(height_in: float, title: str, draw: Callable[[Figure], None]) -> Files:
    """What `draw` draws; `title` goes into the files, so that they tell where they are from."""
    with matplotlib.style.context(["default", RC]):
        layout = ConstrainedLayoutEngine(wspace=GAP)
        figure = Figure(figsize=(WIDTH_IN, height_in), dpi=DPI, layout=layout)
        FigureCanvasAgg(figure)
        draw(figure)
        return save(figure, title)


def save(figure: Figure, title: str) -> Files:
    """Equal figures give equal bytes."""
    raster, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(raster, format="png", dpi=DPI)
    figure.savefig(svg, format="svg", metadata={"Title": title, "Date": None})
    return Files(reduced(raster.getvalue(), title, DPI), svg.getvalue())
