"""A row of `make perf` passes by its target alone, and a round favours no side."""

import pytest

from tests.perf.rows import Row, interleaved, ratios, table


@pytest.mark.parametrize(
    ("target", "passes"),
    [
        ({}, True),
        ({"at_least": 2.0}, True),
        ({"at_least": 2.1}, False),
        ({"at_most": 2.0}, True),
        ({"at_most": 1.9}, False),
        ({"equals": 2.0}, True),
        ({"equals": 0.0}, False),
    ],
)
def test_the_median_is_held_against_the_target(target, passes):
    assert Row("a step", (1.0, 2.0, 9.0), **target).passes is passes


def test_a_table_names_target_figure_spread_and_verdict():
    text = table([Row("a step", (1.0, 2.0, 3.0), at_least=2.5), Row("told", (4.0,), unit="ms")])
    _, _, short, told = [line.split("|")[1:-1] for line in text.splitlines()]
    assert [each.strip() for each in short] == [
        "a step",
        ">= 2.5 x",
        "2 x",
        "1.5 to 2.5 (n = 3)",
        "SHORT",
    ]
    assert [each.strip() for each in told] == ["told", "", "4 ms", "4 to 4 (n = 1)", ""]


def test_rounds_go_forwards_and_backwards_in_turn():
    order: list[str] = []
    clock = iter(range(1, 100))

    def measure(name: str) -> float:
        order.append(name)
        return next(clock)

    one, two = interleaved([lambda: measure("one"), lambda: measure("two")], rounds=3)
    assert order == ["one", "two", "two", "one", "one", "two"]
    assert (one, two) == ((1, 4, 5), (2, 3, 6))
    assert ratios(two, one) == (2, 3 / 4, 6 / 5)
