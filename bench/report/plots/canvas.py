"""A matplotlib figure -> PNG, without pyplot and whatever the reader's matplotlibrc says."""

import io
from collections.abc import Callable

import matplotlib.style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.report.plots.style import DPI, RC, WIDTH_IN

# Between panels, as a share of their width: the ticks of neighbours do not run together.
GAP = 0.06


def layout() -> ConstrainedLayoutEngine:
    return ConstrainedLayoutEngine(wspace=GAP)


def picture(height_in: float, title: str, draw: Callable[[Figure], None]) -> bytes:
    """The PNG of what `draw` draws; `title` goes into the file, so that it tells where it is from.

    Width is WIDTH_IN inches at DPI dots an inch.
    """
    with matplotlib.style.context(["default", RC]):
        figure = Figure(figsize=(WIDTH_IN, height_in), layout=layout())
        FigureCanvasAgg(figure)
        draw(figure)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Title": title})
    return buffer.getvalue()
