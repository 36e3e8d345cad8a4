"""Intervals on an axis that cannot hold all of them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from bench.statistics.interval import Interval

# The interval of two seeds is nine deviations wide to each side. An axis that held it would show
# nothing else: it goes this share of the figures' range beyond them, and an arrow tells the rest.
BEYOND = 0.6
AIR = 0.05  # at both ends, as a share of what is shown

FINEST = 1e-6  # of an axis, as a share of its largest figure

CAP_PT, ARROW_PT = 7, 5
INTERVAL = "_interval"  # label of the lines, which no legend shows
CUT_SHORT = "An arrow head: the interval goes on beyond the axis, as it does with few seeds."


@dataclass(frozen=True)
class View:
    """What an axis shows."""

    low: float
    high: float

    def cuts(self, interval: Interval) -> bool:
        return interval.low < self.low or interval.high > self.high


def view(figures: Sequence[float], intervals: Iterable[Interval | None]) -> View:
    """All figures, and of the intervals what fits."""
    low, high = min(figures, default=0.0), max(figures, default=0.0)
    room = BEYOND * ((high - low) or abs(high) or 1.0)
    ends = [interval for interval in intervals if interval is not None]
    shown_low = min([low, *(max(low - room, interval.low) for interval in ends)])
    shown_high = max([high, *(min(high + room, interval.high) for interval in ends)])
    air = AIR * ((shown_high - shown_low) or abs(high) or 1.0)
    return View(shown_low - air, shown_high + air)


def air(low: float, high: float, share: float, least: float) -> float:
    """Room beyond each end of what an axis shows: a share of its range, and at least so much.

    Beside large figures no less than a double, and a tick's label, can tell from nothing.
    """
    return max(share * (high - low), least, FINEST * max(abs(low), abs(high)))


def whisker(axes: Axes, interval: Interval | None, at: float, shown: View) -> None:
    """An interval as a horizontal line at height `at`, cut off where the axis ends."""
    if interval is None or interval.low > shown.high or interval.high < shown.low:
        return
    low, high = max(interval.low, shown.low), min(interval.high, shown.high)
    axes.plot([low, high], [at, at], color="black", linewidth=1.3, zorder=5, label=INTERVAL)
    for end, whole, arrow in ((low, interval.low, "<"), (high, interval.high, ">")):
        marker, size = ("|", CAP_PT) if end == whole else (arrow, ARROW_PT)
        axes.plot(end, at, marker=marker, markersize=size, color="black", zorder=5, clip_on=False)
