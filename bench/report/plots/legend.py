"""The legend below a picture: as many columns as its longest label allows."""

import math
import textwrap
from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bench.report.plots.style import WIDTH_IN

ROW_IN = 0.2
# Inches that a character of a label and the rest of its entry take.
CHARACTER_IN, SAMPLE_IN = 0.075, 0.65
LABEL_WIDTH = 80  # characters before a label takes a second line


def legend_height_in(labels: Sequence[str]) -> float:
    lines = max((_filled(label).count("\n") + 1 for label in labels), default=0)
    return _rows(labels) * lines * ROW_IN


def draw_legend(figure: Figure, samples: Sequence[Line2D], labels: Sequence[str]) -> None:
    for sample, label in zip(samples, labels, strict=True):
        sample.set_label(_filled(label))
    figure.legend(
        handles=list(samples),
        loc="outside lower center",
        ncols=math.ceil(len(labels) / _rows(labels)),  # columns of equal length
        frameon=False,
        handlelength=3.5,
    )


def _rows(labels: Sequence[str]) -> int:
    longest = max((len(label) for label in labels), default=0)
    fitting = max(1, int(WIDTH_IN / (longest * CHARACTER_IN + SAMPLE_IN)))
    return max(1, math.ceil(len(labels) / fitting))


def _filled(label: str) -> str:
    return textwrap.fill(label, LABEL_WIDTH)
