"""A matplotlib figure -> its files, without pyplot and whatever the reader's matplotlibrc says."""

import io
from collections.abc import Callable
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from bench.report.plots.palette import reduced
from bench.report.plots.style import COLOURS, DPI, RC, WIDTH_IN

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
    raw, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(raw, format="rgba", dpi=DPI)
    width, height = figure.canvas.get_width_height()
    pixels = np.frombuffer(raw.getvalue(), np.uint8).reshape(height, width, 4)[..., :3]
    figure.set_layout_engine("none")  # all is in its place: half the time of the SVG
    figure.savefig(svg, format="svg", metadata={"Title": title, "Date": None})
    return Files(reduced(pixels.copy(), _COLOURS, title, DPI), svg.getvalue())


def _bytes(colour: str) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in to_rgb(colour))
    return red, green, blue


_COLOURS = [_bytes(colour) for colour in COLOURS]
