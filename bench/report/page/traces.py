"""A section's loss curves as data, which the page's script draws with plotly.

    {"note": "",                      # which arms are shown, if not all; a sentence
     "loss": "validation loss (nats per token)",
     "range": [low, high],            # losses to show at first
     "axes": [{"key": "steps", "label": "training steps"}, ...],     # those that some arm has
     "arrays": [[...], ...],          # equal arrays are there once
     "arms": [{"label", "colour", "dash", "symbol",
               "mean": {"steps": [x, y], ...},       # indices of arrays
               "seeds": [{"seed": "1", "curves": {"steps": [x, y], ...}}, ...]}, ...]}

Two curves with the same y are the same evaluations, point by point.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from bench.merge.arms import Arm
from bench.merge.curves import Band, SeedCurve, seed_lines, visible_range
from bench.merge.reading import Array
from bench.merge.sections import Section
from bench.report.plots import lines
from bench.report.plots.drawing import best_of
from bench.report.plots.style import Style
from bench.report.targets import LOSS
from bench.report.words import metric_words

# Of a curve: finer than a screen shows, and 3 KB a cell.
MOST_POINTS = 150
MOST_ARMS = 100  # a page with some thousand of them would not open
DIGITS = 7  # of a number, so that steps and tokens stay whole

AXES = {axis.file.removeprefix("loss_"): axis for axis in lines.AXES}

# matplotlib's name -> plotly's
SYMBOLS = {
    "o": "circle",
    "s": "square",
    "^": "triangle-up",
    "D": "diamond",
    "v": "triangle-down",
    "X": "x",
    "<": "triangle-left",
    "P": "cross",
    ">": "triangle-right",
    "*": "star",
}
MEAN_WIDTH_PX = 2.5

Lines = Mapping[str, Mapping[int, SeedCurve]]  # axis -> seed -> its curve


class _Arrays:
    """Arrays by their index; one that is there already is not added again."""

    def __init__(self) -> None:
        self.found: dict[tuple[float, ...], int] = {}

    def index(self, array: Array) -> int:
        short = tuple(float(f"{value:.{DIGITS}g}") for value in thinned(array).tolist())
        return self.found.setdefault(short, len(self.found))

    def pair(self, x: Array, y: Array) -> list[int]:
        return [self.index(x), self.index(y)]

    def listed(self) -> list[list[float]]:
        return [[int(n) if n.is_integer() else n for n in array] for array in self.found]


def thinned(array: Array) -> Array:
    """At most MOST_POINTS of its values, evenly spaced, with the first and the last."""
    if len(array) <= MOST_POINTS:
        return array
    kept = np.linspace(0, len(array) - 1, MOST_POINTS).round().astype(int)
    return np.asarray(array[kept], dtype=np.float64)


def traces(
    section: Section, looks: Mapping[str, Style], *, seeds: bool
) -> dict[str, object] | None:
    """The curves of all arms; without the single seeds' if there are too many; None without any."""
    shown_arms = best_of(section, section.arms, section.main_metric, MOST_ARMS)
    found = [{key: seed_lines(arm, axis.cost) for key, axis in AXES.items()} for arm in shown_arms]
    if not any(arm["steps"] for arm in found):
        return None
    means = [_means(arm) for arm in found]
    arrays = _Arrays()
    arms = [
        _arm(arm, looks[arm.label], mine, mean, arrays, seeds)
        for arm, mine, mean in zip(shown_arms, found, means, strict=True)
        if mine["steps"]
    ]
    shown = visible_range(
        [line for arm in found for line in arm["steps"].values()],
        [arm["steps"] for arm in means if "steps" in arm],
    )
    few = len(shown_arms) < len(section.arms)
    return {
        "note": NOT_ALL.format(shown=len(shown_arms), arms=len(section.arms)) if few else "",
        "loss": metric_words(section.setup, LOSS, "validation loss"),
        "range": [round(loss, 4) for loss in shown or ()],
        "axes": [
            {"key": key, "label": axis.label.format("")}
            for key, axis in AXES.items()
            if any(arm[key] for arm in found)
        ],
        "arms": arms,
        "arrays": arrays.listed(),
    }


NOT_ALL = "{shown} of {arms:,} configurations: those of the lowest final loss."


def _means(found: Lines) -> dict[str, Band]:
    """Axis -> the mean over seeds."""
    bands = {key: AXES[key].band(list(by_seed.values())) for key, by_seed in found.items()}
    return {key: band for key, band in bands.items() if band is not None}


def _arm(
    arm: Arm,
    look: Style,
    found: Lines,
    means: Mapping[str, Band],
    arrays: _Arrays,
    seeds: bool,
) -> dict[str, Any]:
    numbers: Iterable[int] = found["steps"] if seeds else ()
    return {
        "label": arm.label,
        "colour": look.colour,
        "dash": _dash(look),
        "symbol": SYMBOLS[look.marker],
        "n": arm.n_seeds,
        "mean": {key: arrays.pair(band.x, band.mean) for key, band in means.items()},
        "seeds": [
            {
                "seed": str(seed),  # a script's numbers are whole only up to 2^53
                "curves": {
                    key: arrays.pair(by_seed[seed].x, by_seed[seed].y)
                    for key, by_seed in found.items()
                    if seed in by_seed
                },
            }
            for seed in numbers
        ],
    }


def _dash(look: Style) -> str:
    """matplotlib's lengths are in widths of the line, plotly's in pixels."""
    if isinstance(look.dashes, str):
        return "solid"
    return ",".join(f"{length * MEAN_WIDTH_PX:g}px" for length in look.dashes[1])
