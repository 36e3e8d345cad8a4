"""One metric of one arm as a small picture: coordinates, which the template writes as SVG.

All lengths are in units of the picture, which are pixels on a wide screen.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from bench.records.kinds import LOSS
from bench.report.site.findings import (
    WORSE,
    amount_words,
    change_words,
    failure_words,
    name_of,
    verdict_of,
)
from bench.report.site.trend import ArmTrend, Failures, Trend, TrendPoint
from bench.report.words import MEMORY

WIDTH, PLOT = 300, 96  # of the whole; height of the plot in it
LEFT, RIGHT, BOTTOM = 44, 8, 18
ROW = 14  # height of a row of labels, above the plot
MOST_ROWS = 3  # of labels; what finds no place has its line and its place in the list
SIGN = 6.3  # width of a sign of a label, on the safe side
INSET = 6  # of the points, from the upper and the lower edge
# A range of figures that is smaller than this share of them is drawn as if it were that:
# else a thousandth of noise would fill the picture.
LEAST_RANGE = 0.02

About = Callable[[int], tuple[str, str]]  # of a bundle by its place: its words, its report

UNITS = {"step_time_ms_p50": "ms, median", "tokens_per_s": "tokens / s"}


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    hollow: bool  # of another machine than most, or disturbed: not compared with these
    title: str
    href: str


@dataclass(frozen=True)
class Flag:
    """A change: a line across the plot, with its label at (x, y) above it."""

    at: float
    verdict: str
    title: str
    label: str  # empty: there was no place for it
    x: float
    y: float
    anchor: str  # of SVG: start or end


@dataclass(frozen=True)
class Panel:
    name: str
    unit: str
    latest: str
    height: float
    top: float  # of the plot
    bottom: float
    column: float  # width of a bundle
    dots: tuple[Dot, ...]
    paths: tuple[str, ...]  # points of polylines: from figure to figure of one machine
    levels: tuple[tuple[float, float, float], ...]  # (x from, x to, y): means between changes
    flags: tuple[Flag, ...]
    ticks: tuple[tuple[float, str], ...]  # (y, text)
    days: tuple[str, ...]  # of the first bundle and the last
    has_hollow: bool


def panels(arm: ArmTrend, bundles: Sequence[int], about: About) -> tuple[Panel, ...]:
    """Its trends over the places of `bundles`, all of one height; the first has the failures."""
    x_of = _columns(bundles)
    failures = [arm.failures, *(() for _ in arm.trends[1:])]
    flags = [
        _placed(_flags(trend, failed, x_of, about))
        for trend, failed in zip(arm.trends, failures, strict=True)
    ]
    rows = {round(1 - flag.y / ROW) for each in flags for flag in each if flag.label}
    top = 6.0 + ROW * max(rows, default=0)
    pairs = zip(arm.trends, flags, strict=True)
    return tuple(_panel(trend, each, bundles, top, about) for trend, each in pairs)


def _panel(
    trend: Trend, flags: Sequence[Flag], bundles: Sequence[int], top: float, about: About
) -> Panel:
    x_of = _columns(bundles)
    y_of = _scale([point.mean for point in trend.points], top)
    usual = _usual_machine(trend)
    dots = tuple(
        Dot(
            x_of[point.bundle],
            y_of(point.mean),
            not point.decides or (_by_machine(trend) and point.machine != usual),
            f"{about(point.bundle)[0]}: {trend.column.write(point.mean)}",
            about(point.bundle)[1],
        )
        for point in trend.points
    )
    return Panel(
        name=name_of(trend.metric, trend.column),
        unit=_unit(trend),
        latest=trend.column.write(trend.points[-1].mean),
        height=top + PLOT + BOTTOM,
        top=top,
        bottom=top + PLOT,
        column=_width(bundles),
        dots=dots,
        paths=_paths(trend, x_of, y_of),
        levels=_levels(trend, x_of, y_of, usual),
        flags=tuple(replace(flag, y=top - 5 + flag.y) for flag in flags),
        ticks=_ticks(trend, y_of),
        days=tuple(dict.fromkeys(about(place)[0][:10] for place in (bundles[0], bundles[-1]))),
        has_hollow=any(dot.hollow for dot in dots),
    )


def _width(bundles: Sequence[int]) -> float:
    return (WIDTH - LEFT - RIGHT) / len(bundles)


def _columns(bundles: Sequence[int]) -> dict[int, float]:
    width = _width(bundles)
    return {bundle: LEFT + width * (place + 0.5) for place, bundle in enumerate(bundles)}


def _scale(values: Sequence[float], top: float) -> Callable[[float], float]:
    low, high = min(values), max(values)
    least = LEAST_RANGE * max(abs(low), abs(high)) or 1.0
    if (missing := least - (high - low)) > 0:
        low, high = low - missing / 2, high + missing / 2
    factor = (PLOT - 2 * INSET) / (high - low)
    return lambda value: top + INSET + (high - value) * factor


def _by_machine(trend: Trend) -> bool:
    return trend.column.kind != LOSS


def _usual_machine(trend: Trend) -> tuple[str, str]:
    """That of most bundles; of several the one that was used last."""
    machines = [point.machine for point in reversed(trend.points)]
    return Counter(machines).most_common(1)[0][0]


def _chains(trend: Trend) -> list[list[TrendPoint]]:
    """Its points, machine by machine where these tell."""
    found: dict[tuple[str, str], list[TrendPoint]] = defaultdict(list)
    for point in trend.points:
        found[point.machine if _by_machine(trend) else ("", "")].append(point)
    return list(found.values())


def _paths(trend: Trend, x_of: dict[int, float], y_of: Callable[[float], float]) -> tuple[str, ...]:
    chains = [[(x_of[p.bundle], y_of(p.mean)) for p in chain] for chain in _chains(trend)]
    return tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in chain) for chain in chains if chain[1:])


def _levels(
    trend: Trend, x_of: dict[int, float], y_of: Callable[[float], float], usual: tuple[str, str]
) -> tuple[tuple[float, float, float], ...]:
    """Of the usual machine, where there was a change: without one it says nothing."""
    found: dict[int, list[TrendPoint]] = defaultdict(list)
    for point in trend.points:
        if point.decides and (not _by_machine(trend) or point.machine == usual):
            found[point.level].append(point)
    if len(found) < 2:
        return ()
    return tuple(
        (
            x_of[group[0].bundle],
            x_of[group[-1].bundle],
            y_of(statistics.fmean(p.mean for p in group)),
        )
        for group in found.values()
    )


def _ticks(trend: Trend, y_of: Callable[[float], float]) -> tuple[tuple[float, str], ...]:
    """The lowest and the highest figure; one, where their texts would touch."""
    values = [point.mean for point in trend.points]
    found = dict.fromkeys((max(values), min(values)))
    ticks = {trend.column.write(value): y_of(value) for value in found}
    places = [(y, text) for text, y in ticks.items()]
    return tuple(places[:1] if any(b - a < ROW for (a, _), (b, _) in pairwise(places)) else places)


def _unit(trend: Trend) -> str:
    if trend.metric in MEMORY:
        return MEMORY[trend.metric][1]
    return UNITS.get(trend.metric, trend.column.unit)


def _flags(
    trend: Trend,
    failures: Sequence[Failures],
    x_of: dict[int, float],
    about: About,
) -> list[Flag]:
    told = [
        (
            point.bundle,
            verdict_of(change),
            amount_words(change, trend.column),
            change_words(change, trend.column),
        )
        for point in trend.points
        if (change := point.change)
    ]
    told += [(each.bundle, WORSE, words := failure_words(each), words) for each in failures]
    return [
        Flag(
            at=x_of[bundle],
            verdict=verdict,
            title=f"{about(bundle)[0]}: {verdict}: {words}",
            label=f"{verdict} {amount}",
            x=x_of[bundle],
            y=0,
            anchor="start" if x_of[bundle] < WIDTH / 2 else "end",
        )
        for bundle, verdict, amount, words in sorted(told)
    ]


def _placed(flags: Sequence[Flag]) -> list[Flag]:
    """Each label in the lowest row that has room for it; y is 0, -ROW, -2 ROW."""
    taken: list[tuple[int, float, float]] = []
    found = []
    for flag in flags:
        length = SIGN * len(flag.label) + 8
        start = flag.at if flag.anchor == "start" else flag.at - length
        free = (
            row
            for row in range(MOST_ROWS)
            if all(r != row or end < start or start + length < begin for r, begin, end in taken)
        )
        row = next(free, None)
        if row is not None:
            taken.append((row, start, start + length))
        shift = 4 if flag.anchor == "start" else -4
        label = "" if row is None else flag.label
        found.append(replace(flag, label=label, x=flag.at + shift, y=-ROW * (row or 0)))
    return found
