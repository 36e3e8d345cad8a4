"""How an arm looks in every picture of a report."""

import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from matplotlib.lines import Line2D

# Okabe and Ito's palette, made for colour-blind readers (jfly.uni-koeln.de/color); without its
# yellow, which a thin line on white paper loses.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")

GREY = "#666666"  # of what belongs to no arm: lines to look along
FAINT = "#DDDDDD"  # of what lies behind: a margin, the face of a dominated arm

# In greyscale the first four colours are alike, so that everything differs a second time. The
# lengths have no common divisor with the palette's: 7 x 10 arms differ in (colour, marker).
MARKERS = ("o", "s", "^", "D", "v", "X", "<", "P", ">", "*")
LARGER = {"*": 1.6, "X": 1.2, "P": 1.2}  # they have much less area than a dot
DASHES = ("-", (0, (5, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
# Lines only: an SVG writes each dot of a dotted pattern as a path.
HATCHES = ("", "////", "----", "xxxx", "\\\\\\\\", "||||", "++++", "//")

# Characters of a label beside a bar before it takes a second line: a quarter of the figure.
LABEL_WIDTH = 26

# Sizes in points, at a figure 7 inches wide (two columns of a paper).
WIDTH_IN = 7.0
FONT_PT = 10
SMALL_PT = 9
DPI = 200

MOST_POINTS = 20  # single seeds of an arm where each is a point: more are a smear

TICK_STEPS = (1, 2, 2.5, 5, 10)  # distances of ticks that a reader can halve
TICK_FORM = "{x:,.10g}"  # no exponents, and no noise of binary fractions

RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": FONT_PT,
    "axes.titlesize": FONT_PT,
    "axes.titlelocation": "left",
    "axes.labelsize": FONT_PT,
    "xtick.labelsize": SMALL_PT,
    "ytick.labelsize": SMALL_PT,
    "legend.fontsize": SMALL_PT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "hatch.linewidth": 0.7,
    "svg.hashsalt": "bench",  # ids follow from content: equal figures make equal files
    "text.parse_math": False,  # a $ in a name is a $
}


@dataclass(frozen=True)
class Style:
    colour: str
    marker: str
    dashes: str | tuple[int, tuple[float, ...]]
    hatch: str


def styles(labels: Iterable[str]) -> dict[str, Style]:
    """A style for each distinct label, in the order of first appearance.

    By label and not by arm_id: an arm on another device is another arm, and looks the same.
    """
    return {
        label: Style(
            colour=COLOURS[index % len(COLOURS)],
            marker=MARKERS[index % len(MARKERS)],
            dashes=DASHES[index % len(DASHES)],
            hatch=HATCHES[index % len(HATCHES)],
        )
        for index, label in enumerate(dict.fromkeys(labels))
    }


def marker_pt(style: Style, size_pt: float) -> float:
    """The size that makes an arm's marker look as large as a dot of this size."""
    return size_pt * LARGER.get(style.marker, 1.0)


def line_look(style: Style) -> dict[str, Any]:
    """An arm's line with its markers, in a picture and in its legend."""
    return {
        "color": style.colour,
        "linestyle": style.dashes,
        "linewidth": 1.6,
        "marker": style.marker,
        "markersize": marker_pt(style, 5),
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def marker_sample(style: Style, size_pt: float) -> Line2D:
    """An arm's marker alone, for a legend."""
    size = marker_pt(style, size_pt)
    return Line2D([], [], **line_look(style) | {"linestyle": "none", "markersize": size})


def wrapped(label: str) -> str:
    """A label on as few lines as fit beside a bar, broken before the optimizer if it can be."""
    if len(label) <= LABEL_WIDTH:
        return label
    model, plus, optimizer = label.partition(" + ")
    parts = [model, f"+ {optimizer}"] if plus else [label]
    return "\n".join(line for part in parts for line in textwrap.wrap(part, LABEL_WIDTH))


def first_seeds(n: int, shown: int = MOST_POINTS) -> str:
    """What follows "single seeds" in a caption where an arm has n of them."""
    return f", the first {shown} of each configuration" if n > shown else ""
