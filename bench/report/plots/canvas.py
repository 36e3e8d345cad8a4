"""A matplotlib figure -> its files, without pyplot and whatever the reader's matplotlibrc says."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray
from PIL import Image, ImageColor, PngImagePlugin
from scipy.cluster.vq import vq

from bench.report.plots.style import COLOURS, DPI, RC, WIDTH_IN

Colour = tuple[int, ...]  # red, green, blue of 255

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
    return Files(
        reduced(pixels.copy(), [*map(ImageColor.getrgb, COLOURS)], title, DPI), svg.getvalue()
    )


# --- a smaller PNG: few colours, of which those that matter stay exact

# A picture has some ten colours, and thousands of blends at the edges of letters and lines. A few
# of those are enough: half of the bytes, and to the eye the same.
MOST = 64
TINTS = (1.0, 0.75, 0.5, 0.25)  # of an exact colour on white paper, kept whether frequent or not
GREYS = range(0, 256, 36)


def reduced(pixels: NDArray[np.uint8], exact: Sequence[Colour], title: str, dpi: int) -> bytes:
    """(height, width, 3) -> a PNG in at most MOST colours, every other one as the nearest of them.

    Of the `exact` colours those that occur are kept, and their tints, lest an arm's small mark take
    the hue of another's; the rest are those of which there are most pixels.
    """
    image = Image.fromarray(pixels)
    counted = image.getcolors(maxcolors=image.width * image.height) or []
    found = [colour for _, colour in sorted(counted, key=lambda each: (-each[0], each[1]))]
    there = set(found)
    tints = [_tint(colour, share) for colour in exact if colour in there for share in TINTS]
    greys = [(grey, grey, grey) for grey in GREYS]
    kept = np.array(list(dict.fromkeys([*tints, *greys, *found]))[:MOST], dtype=np.int32)
    colours = np.array(found, dtype=np.int32)  # (colours, 3)
    index_of = np.zeros(2**24, dtype=np.uint8)  # by 0xRRGGBB
    index_of[_codes(colours)], _ = vq(colours.astype(float), kept.astype(float))
    small = Image.fromarray(index_of[_codes(pixels.astype(np.int32))])
    small.putpalette(kept.astype(np.uint8).tobytes())
    told, out = PngImagePlugin.PngInfo(), io.BytesIO()
    told.add_text("Title", title)
    small.save(out, format="PNG", optimize=True, dpi=(dpi, dpi), pnginfo=told)
    return out.getvalue()


def _tint(colour: Colour, share: float) -> Colour:
    return tuple(round(255 - share * (255 - part)) for part in colour)


def _codes(colours: NDArray[np.int32]) -> NDArray[np.int32]:
    """(..., 3) -> 0xRRGGBB."""
    return (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
