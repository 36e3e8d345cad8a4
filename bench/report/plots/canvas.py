"""A matplotlib figure -> its files, without pyplot and whatever the reader's matplotlibrc says."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.report.plots.style import DPI, RC, WIDTH_IN

# Between panels, as a share of their width: the ticks of neighbours do not run together.
GAP = 0.06


def layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(wspace=GAP)


@dataclass(frozen=True)
class Files:
    """One picture in two formats."""

    png: bytes  # WIDTH_IN inches wide, at DPI dots an inch
    svg: bytes


def picture(height_in: float, title: str, draw: Callable[[Figure], None]) -> Files:
    """What `draw` draws; `title` goes into the files, so that they tell where they are from."""
    with matplotlib.style.context(["default", RC]):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout())
        FigureCanvasAgg(figure)
        draw(figure)
        png, svg = io.BytesIO(), io.BytesIO()
        figure.savefig(png, format="png", dpi=DPI, metadata={"Title": title})
        figure.savefig(svg, format="svg", metadata={"Title": title, "Date": None})
    return Files(png.getvalue(), svg.getvalue())
