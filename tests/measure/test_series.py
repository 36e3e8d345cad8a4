"""Readings over time -> figures of spans, against numpy and against sums that anyone can redo."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure.series import (
    Series,
    Span,
    covers,
    increase,
    inside,
    integral,
    length,
    mean,
    share,
    value_at,
    within,
)

START = 1_000_000.0  # seconds of a clock that has run for days, where floats are coarse

# Whole milliseconds, so that a moment often falls exactly on a reading or on an edge.
MOMENTS = st.lists(st.integers(0, 60_000), min_size=1, max_size=40, unique=True).map(sorted)
VALUES = st.floats(-1e6, 1e6, allow_nan=False)


def clock(moments_ms: list[int]) -> list[float]:
    return [START + moment / 1000 for moment in moments_ms]


@st.composite
def series_of(draw: st.DrawFn, counter: bool = False) -> list[tuple[float, float]]:
    moments = clock(draw(MOMENTS))
    n = len(moments)
    if counter:
        steps = draw(st.lists(st.floats(0, 1e4, allow_nan=False), min_size=n, max_size=n))
        return list(zip(moments, np.cumsum(steps).tolist(), strict=True))
    return list(zip(moments, draw(st.lists(VALUES, min_size=n, max_size=n)), strict=True))


@st.composite
def spans_within(draw: st.DrawFn, begin: float, end: float) -> list[Span]:
    """Ascending spans of [begin, end]; touching ones and those of no length among them."""
    last = round((end - begin) * 1000)
    n = 2 * draw(st.integers(0, 6))
    edges = sorted(draw(st.lists(st.integers(0, last), min_size=n, max_size=n)))
    edges_s = [min(end, begin + edge / 1000) for edge in edges]
    return list(zip(edges_s[::2], edges_s[1::2], strict=True))


def split(series: Series) -> tuple[list[float], list[float]]:
    return [at for at, _ in series], [value for _, value in series]


def area(series: Series, span: Span) -> float:
    """numpy's, over the readings of a span and its interpolated edges."""
    moments, values = split(series)
    grid = [span[0], *(at for at in moments if span[0] < at < span[1]), span[1]]
    return float(np.trapezoid(np.interp(grid, moments, values), grid))


@given(series_of(), st.integers(-1000, 61_000))
def test_a_value_is_that_of_numpy_and_unknown_outside_of_the_readings(
    series: list[tuple[float, float]], moment_ms: int
) -> None:
    moments, values = split(series)
    moment = START + moment_ms / 1000
    found = value_at(series, moment)
    if not moments[0] <= moment <= moments[-1]:
        assert found is None
    else:
        assert found == pytest.approx(np.interp(moment, moments, values), rel=1e-6, abs=1e-3)


@given(series_of())
def test_a_value_at_a_reading_is_the_reading(series: list[tuple[float, float]]) -> None:
    assert [value_at(series, at) for at, _ in series] == [value for _, value in series]


@given(st.data(), series_of(counter=True))
def test_an_increase_is_the_sum_of_differences(
    data: st.DataObject, series: list[tuple[float, float]]
) -> None:
    moments, values = split(series)
    spans = data.draw(spans_within(moments[0], moments[-1]))
    wanted = sum(np.diff(np.interp(span, moments, values))[0] for span in spans)
    assert increase(series, spans) == pytest.approx(wanted, rel=1e-6, abs=1e-2)


@given(st.data(), series_of())
def test_an_integral_is_that_of_numpy(
    data: st.DataObject, series: list[tuple[float, float]]
) -> None:
    moments, _ = split(series)
    spans = data.draw(spans_within(moments[0], moments[-1]))
    wanted = sum(area(series, span) for span in spans)
    assert integral(series, spans) == pytest.approx(wanted, rel=1e-6, abs=1e-1)


@given(st.data(), series_of(counter=True))
def test_spans_and_the_gaps_between_them_make_up_the_whole(
    data: st.DataObject, series: list[tuple[float, float]]
) -> None:
    begin, end = series[0][0], series[-1][0]
    spans = data.draw(spans_within(begin, end))
    edges = [begin, *(edge for span in spans for edge in span), end]
    gaps = list(zip(edges[::2], edges[1::2], strict=True))
    for figure in (increase, integral):
        parts = [figure(series, spans), figure(series, gaps)]
        assert sum(part for part in parts if part is not None) == pytest.approx(
            figure(series, [(begin, end)]), rel=1e-9, abs=1e-3
        )


def test_an_integral_within_one_pair_of_readings_follows_the_line_between_them() -> None:
    assert integral([(0.0, 0.0), (1.0, 100.0)], [(0.0, 0.5)]) == pytest.approx(12.5)
    assert integral([(0.0, 0.0), (1.0, 100.0)], [(0.25, 0.5), (0.5, 0.75)]) == pytest.approx(25.0)


@pytest.mark.parametrize("figure", [increase, integral])
@pytest.mark.parametrize(
    "spans",
    [
        [(9.9, 12.0)],  # begins before the first reading
        [(18.0, 20.1)],  # ends after the last
        [(5.0, 25.0)],
        [(12.0, 13.0), (19.0, 21.0)],  # one of several is enough
        [(30.0, 31.0)],
        [(1.0, 2.0)],
    ],
)
def test_a_span_that_the_readings_do_not_cover_is_unknown(figure, spans: list[Span]) -> None:
    readings = [(float(at), float(at)) for at in range(10, 21)]
    assert figure(readings, spans) is None
    assert figure(readings, [(10.0, 20.0)]) is not None  # exactly at both ends is covered


@pytest.mark.parametrize("figure", [increase, integral])
def test_no_reading_tells_nothing_and_one_reading_only_of_its_moment(figure) -> None:
    assert figure([], [(1.0, 2.0)]) is None
    assert figure([(1.0, 7.0)], [(1.0, 2.0)]) is None
    assert figure([(1.0, 7.0)], [(0.0, 1.0)]) is None
    assert figure([(1.0, 7.0)], [(1.0, 1.0)]) == 0
    assert value_at([], 1.0) is None
    assert value_at([(1.0, 7.0)], 1.0) == 7.0


class TestACounterThatBeginsAnew:
    """As NVML's does when the driver is loaded again."""

    READINGS = ((0.0, 900.0), (1.0, 1000.0), (2.0, 5.0), (3.0, 105.0), (4.0, 205.0))

    @pytest.mark.parametrize("span", [(0.0, 4.0), (0.5, 1.5), (1.2, 1.8), (1.9, 3.0), (1.0, 2.0)])
    def test_it_tells_nothing_of_a_span_in_which_it_did(self, span: Span) -> None:
        assert increase(self.READINGS, [span]) is None
        assert increase(self.READINGS, [(0.0, 0.5), span]) is None

    @pytest.mark.parametrize("span", [(0.0, 1.0), (2.0, 4.0), (2.5, 3.5)])
    def test_it_still_tells_of_others(self, span: Span) -> None:
        assert increase(self.READINGS, [span]) == pytest.approx(100 * (span[1] - span[0]))

    def test_in_a_gap_between_spans_it_costs_nothing(self) -> None:
        assert increase(self.READINGS, [(0.0, 1.0), (2.0, 4.0)]) == pytest.approx(300.0)

    def test_a_power_that_falls_is_no_counter(self) -> None:
        assert integral([(0.0, 300.0), (1.0, 100.0)], [(0.0, 1.0)]) == pytest.approx(200.0)


def test_two_readings_of_one_moment_divide_by_nothing() -> None:
    series = [(1.0, 10.0), (1.0, 12.0), (2.0, 14.0)]
    assert value_at(series, 1.5) == pytest.approx(13.0)
    assert integral(series, [(1.25, 1.75)]) == pytest.approx(6.5)
    assert increase(series, [(1.0, 2.0)]) == pytest.approx(4.0)


@given(st.data())
def test_inside_and_within_ask_each_span(data: st.DataObject) -> None:
    spans = data.draw(spans_within(0.0, 20.0))
    moments = [edge for span in spans for edge in span] + [at / 1000 for at in range(0, 20_000, 97)]
    wanted = [any(begin <= at <= end for begin, end in spans) for at in moments]
    # of spans that touch, the later one begins where the earlier one ends
    assert [inside(spans, at) for at in moments] == wanted
    readings = [(at, place) for place, at in enumerate(moments)]
    assert within(readings, spans) == [place for place, held in enumerate(wanted) if held]


def test_an_edge_is_inside_and_the_next_float_is_not() -> None:
    spans = [(1.0, 2.0), (3.0, 4.0)]
    for begin, end in spans:
        assert inside(spans, begin)
        assert inside(spans, end)
        assert not inside(spans, np.nextafter(begin, 0))
        assert not inside(spans, np.nextafter(end, 9))
    assert not inside([], 1.0)


def test_length_mean_and_share() -> None:
    assert length([]) == 0
    assert length([(1.0, 2.5), (4.0, 4.0), (5.0, 5.5)]) == 2.0
    assert mean([]) is None
    assert mean([0.0]) == 0.0
    assert mean([1.0, 2.0, 6.0]) == 3.0
    assert share([], bool) is None
    assert share([0, 0], bool) == 0.0
    assert share([1, 0, 1, 1], bool) == 0.75


def test_a_thousand_short_spans_add_up_without_drift() -> None:
    """Training for 20 ms between evaluations, read every 100 ms, at a power that never changes."""
    counter = [(START + tick / 10, 1e9 + 30.0 * tick) for tick in range(2001)]
    edges = [START + 0.05 + 0.1 * i for i in range(1999)]
    spans = [(begin, begin + 0.02) for begin in edges]
    assert all(first[1] < second[0] for first, second in pairwise(spans))
    assert increase(counter, spans) == pytest.approx(300.0 * length(spans), rel=1e-6)


@pytest.mark.parametrize(
    ("moments", "covered"),
    [
        ([0, 1, 2, 3, 4], True),
        ([1, 2, 3], True),  # exactly at the edges
        ([0, 2, 4], True),
        ([0, 1, 2], False),  # none after
        ([2, 3, 4], False),  # none before
        ([0, 1, 3.5, 4], False),  # too far apart
        ([0, 0.5, 3.5], False),
        ([], False),
    ],
)
def test_readings_cover_a_span_from_before_to_after(moments: list[float], covered: bool) -> None:
    series = [(moment, "any") for moment in moments]
    assert covers(series, [(1.0, 3.0)], gap_s=2.0) is covered


def test_every_span_must_be_covered() -> None:
    series = [(float(moment), 0) for moment in (0, 1, 2, 8, 9, 10)]
    assert covers(series, [(0.5, 1.5), (8.5, 9.5)], gap_s=1.0)
    assert not covers(series, [(0.5, 1.5), (2.5, 9.5)], gap_s=1.0)
