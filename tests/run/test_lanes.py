"""The cells of a run in its lanes: who ran beside whom, and how long is left."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from bench.matrix.expansion import load_matrix
from bench.records.cells import Cell
from bench.run import lanes
from bench.run.lanes import Lanes, Slot

TAKES_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(lanes, "time", clock)
    return clock


@pytest.fixture
def cells(tiny_matrix: Path) -> list[Cell]:
    return list(load_matrix(tiny_matrix).cells)


def open_lanes(cells: list[Cell], count: int) -> Lanes:
    return Lanes(list(cells), [Slot((cpu,), ()) for cpu in range(count)])


def launch(lanes: Lanes) -> Future[dict[str, Any]]:
    future: Future[dict[str, Any]] = Future()
    lanes.launched(future, *lanes.next())
    return future


def test_neighbours_are_those_that_were_there_at_any_moment(cells: list[Cell]) -> None:
    two = open_lanes(cells, 2)
    ids = [cell.spec.run_id for cell in cells]

    def ended(future: Future[dict[str, Any]]) -> tuple[str, int, set[str]]:
        cell, told = two.ended(future)
        return cell.spec.run_id, told["neighbours"], set(told["neighbour_ids"].split())

    first, second = launch(two), launch(two)
    assert not two.may_launch
    assert ended(first) == (ids[0], 1, {ids[1]})
    third = launch(two)
    assert ended(second) == (ids[1], 2, {ids[0], ids[2]})
    assert ended(third) == (ids[2], 1, {ids[1]})
    fourth = launch(two)
    assert ended(fourth) == (ids[3], 0, set())


def test_an_earlier_attempt_is_no_neighbour_of_the_next(cells: list[Cell]) -> None:
    two = open_lanes(cells[:1], 2)
    two.ended(launch(two))
    two.waiting.append(cells[0])
    assert two.ended(launch(two))[1] == {"neighbours": 0, "neighbour_ids": ""}


@pytest.mark.parametrize(
    ("n_cells", "count", "left_s"),
    [(4, 1, 40), (4, 2, 20), (3, 2, 20), (1, 4, 10), (4, 3, 20), (4, 8, 10), (0, 2, 0)],
)
def test_time_left_is_that_of_the_lane_that_ends_last(
    cells: list[Cell], n_cells: int, count: int, left_s: float
) -> None:
    assert open_lanes(cells[:n_cells], count).left_s(lambda cell: TAKES_S) == left_s


def test_what_runs_has_the_rest_of_its_time_to_go(cells: list[Cell], clock: Clock) -> None:
    two = open_lanes(cells, 2)
    first = launch(two)
    clock.now = 4.0
    launch(two)
    clock.now = 7.0  # they have 3 s and 7 s to go, and two wait: 3 + 10 s, 7 + 10 s
    assert two.left_s(lambda cell: TAKES_S) == 17.0
    two.ended(first)
    assert two.left_s(lambda cell: TAKES_S) == 17.0
    clock.now = 100.0  # longer than was to be expected: any moment now
    assert two.left_s(lambda cell: TAKES_S) == 10.0
