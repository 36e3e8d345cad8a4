"""A section's loss curves as data, which the page's script draws with plotly.

    {"note": "",                      # which arms are shown, if not all; a sentence
     "range": [low, high],            # losses to show at first, nats per token
     "axes": [{"key": "steps", "label": "training steps"}, ...],     # those that some arm has
     "arrays": [[...], ...],          # equal arrays are there once
     "arms": [{"label", "colour", "dash", "symbol",
               "mean": {"steps": [x, y], ...},       # indices of arrays
               "seeds": [{"seed": "1", "curves": {"steps": [x, y], ...}}, ...]}, ...]}

Two curves with the same y are the same evaluations, point by point.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bench.merge import curves
from bench.merge.curves import Band, Cost, SeedCurve, seed_lines
from bench.merge.reading import Array
from bench.merge.sections import Arm, Section
from bench.report.plots.style import Style

# Of a curve: finer than a screen shows, and 3 KB a cell.
MOST_POINTS = 150
MOST_ARMS = 100  # a page with some thousand of them would not open
DIGITS = 7  # of a number, so that steps and tokens stay whole

AXES: dict[str, tuple[str, Cost]] = {
    "steps": ("training steps", curves.steps),
    "tokens": ("training tokens", curves.tokens),
    "seconds": ("training time (s)", curves.seconds),
    "flops": ("training FLOPs", curves.flops),
}

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
    shown_arms = _shown_arms(section.arms)
    lines = [{key: seed_lines(arm, cost) for key, (_, cost) in AXES.items()} for arm in shown_arms]
    if not any(arm["steps"] for arm in lines):
        return None
    means = [_means(arm) for arm in lines]
    arrays = _Arrays()
    arms = [
        _arm(arm, looks[arm.label], mine, mean, arrays, seeds)
        for arm, mine, mean in zip(shown_arms, lines, means, strict=True)
        if mine["steps"]
    ]
    shown = curves.visible_range(
        [line for arm in lines for line in arm["steps"].values()],
        [arm["steps"] for arm in means if "steps" in arm],
    )
    few = len(shown_arms) < len(section.arms)
    return {
        "note": NOT_ALL.format(shown=len(shown_arms), arms=len(section.arms)) if few else "",
        "range": [round(loss, 4) for loss in shown or ()],
        "axes": [
            {"key": key, "label": label}
            for key, (label, _) in AXES.items()
            if any(arm[key] for arm in lines)
        ],
        "arms": arms,
        "arrays": arrays.listed(),
    }


def _shown_arms(arms: Sequence[Arm]) -> list[Arm]:
    """Those of lowest final loss if there are too many, in the order of the plans."""

    def rank(arm: Arm) -> float:
        loss = arm.spread("val_loss_final").mean
        return math.inf if loss is None else loss

    kept = {arm.arm_id for arm in sorted(arms, key=rank)[:MOST_ARMS]}
    return [arm for arm in arms if arm.arm_id in kept]


NOT_ALL = "{shown} of {arms:,} arms: those of the lowest final loss."


def _means(lines: Lines) -> dict[str, Band]:
    """Axis -> the mean over seeds; seconds are each seed's own, the others have common ones."""
    found = {key: _mean(key, list(by_seed.values())) for key, by_seed in lines.items()}
    return {key: band for key, band in found.items() if band is not None}


def _mean(axis: str, lines: Sequence[SeedCurve]) -> Band | None:
    return curves.band_over_seconds(lines) if axis == "seconds" else curves.band_over_steps(lines)


def _arm(
    arm: Arm,
    look: Style,
    lines: Lines,
    means: Mapping[str, Band],
    arrays: _Arrays,
    seeds: bool,
) -> dict[str, Any]:
    numbers: Iterable[int] = lines["steps"] if seeds else ()
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
                    for key, by_seed in lines.items()
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
