"""Readings over time -> figures of the spans that are asked about. Pure.

A series is a list of (moment, value), moments ascending, in seconds of CLOCK_MONOTONIC, as are the
two edges of a span.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

T = TypeVar("T")
Series = Sequence[tuple[float, T]]
Span = tuple[float, float]


def length(spans: Iterable[Span]) -> float:
    """Seconds in all."""
    return sum(end - begin for begin, end in spans)


def covers(series: Series[T], spans: Iterable[Span], gap_s: float) -> bool:
    """Whether there are readings before, after and all through each span, at most so far apart."""
    for begin, end in spans:
        moments = [moment for moment, _ in _around(series, begin, end)]
        if not moments or moments[0] > begin or moments[-1] < end:
            return False
        if any(later - earlier > gap_s for earlier, later in pairwise(moments)):
            return False
    return True


def value_at(series: Series[float], moment: float) -> float | None:
    """Between two readings by a straight line; None outside of all readings."""
    place = bisect_left(series, moment, key=lambda reading: reading[0])
    if place == len(series) or (place == 0 and series[0][0] > moment):
        return None
    after, later = series[place]
    if after == moment:
        return later
    before, earlier = series[place - 1]
    return earlier + (later - earlier) * (moment - before) / (after - before)


def increase(series: Series[float], spans: Iterable[Span]) -> float | None:
    """By how much a counter grew in the spans together.

    None if it was not read around them, or fell there, as one does that begins anew.
    """
    total = 0.0
    for begin, end in spans:
        first, last = value_at(series, begin), value_at(series, end)
        readings = pairwise(_around(series, begin, end))
        if first is None or last is None or any(now[1] < before[1] for before, now in readings):
            return None
        total += last - first
    return total


def integral(series: Series[float], spans: Iterable[Span]) -> float | None:
    """The area under a reading, by trapezia: of watts, joules. None if not read around them."""
    area = 0.0
    for begin, end in spans:
        first, last = value_at(series, begin), value_at(series, end)
        if first is None or last is None:
            return None
        points = [(begin, first), *_around(series, begin, end)[1:-1], (end, last)]
        for (before, earlier), (after, later) in pairwise(points):
            area += (after - before) * (earlier + later) / 2
    return area


def _around(series: Series[T], begin: float, end: float) -> Series[T]:
    """From the last reading up to `begin` to the first from `end` on."""
    first = bisect_right(series, begin, key=lambda reading: reading[0]) - 1
    last = bisect_left(series, end, key=lambda reading: reading[0])
    return series[max(0, first) : last + 1]


def inside(spans: Sequence[Span], moment: float) -> bool:
    """Whether a moment lies in one of these spans, which ascend."""
    place = bisect_right(spans, moment, key=lambda span: span[0])
    return place > 0 and moment <= spans[place - 1][1]


def within(series: Series[T], spans: Sequence[Span]) -> list[T]:
    """The readings whose moment lies in a span."""
    return [value for moment, value in series if inside(spans, moment)]


def mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def share(values: Sequence[T], holds: Callable[[T], bool]) -> float | None:
    """The part of the readings for which something holds, 0 to 1."""
    return sum(map(holds, values)) / len(values) if values else None
