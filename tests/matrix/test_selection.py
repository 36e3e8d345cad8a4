"""--only and --shard choose cells, and say so where there are none."""

import re

import pytest

from bench.errors import RequestError
from bench.matrix.expansion import load_matrix
from bench.matrix.selection import axis_values, select
from bench.records.cells import Cell
from tests.builders.matrices import SHIPPED


@pytest.fixture(scope="module")
def cells() -> tuple[Cell, ...]:
    return load_matrix(next(file for file in SHIPPED if file.name == "original.yaml")).cells


def names(cells: tuple[Cell, ...], selected: set[str]) -> list[str]:
    return [" ".join(axis_values(cell).values()) for cell in cells if cell.spec.run_id in selected]


def test_without_options_every_cell_is_selected(cells):
    assert select(cells, [], None) == {cell.spec.run_id for cell in cells}


def test_only_takes_the_cells_with_a_value(cells):
    selected = select(cells, ["seed=2"], None)
    assert len(selected) == 8
    assert all(name.endswith(" 2") for name in names(cells, selected))


def test_several_values_of_one_key_are_alternatives_and_keys_must_all_hold(cells):
    only = ["seed=1", "model=nanokimi", "seed=3", "optimizer=adamw", "device=cpu"]
    assert sorted(names(cells, select(cells, only, None))) == [
        "nanokimi adamw cpu 1",
        "nanokimi adamw cpu 3",
    ]


def test_shards_are_consecutive_parts_that_together_are_the_matrix(cells):
    run_ids = [cell.spec.run_id for cell in cells]
    for count in range(1, len(cells) + 10):
        shards = [select(cells, [], f"{index}/{count}") for index in range(1, count + 1)]
        place = iter(run_ids)
        assert all({next(place) for _ in shard} == shard for shard in shards)
        assert next(place, None) is None
        sizes = {len(shard) for shard in shards}
        assert max(sizes) - min(sizes) <= 1


def test_a_shard_keeps_the_arms_of_a_seed_together_where_it_can(cells):
    assert select(cells, [], "2/5") == select(cells, ["seed=2"], None)


def test_only_holds_within_a_shard(cells):
    selected = select(cells, ["device=cpu"], "1/5")
    assert selected == select(cells, ["seed=1", "device=cpu"], None)


@pytest.mark.parametrize(
    ("only", "says"),
    [
        ("modle=nanogpt", "--only modle=nanogpt: no such key. Did you mean 'model'? Allowed: "),
        ("model=nanogtp", "no cell has it. Did you mean 'nanogpt'? Allowed: nanogpt, nanokimi."),
        ("seed=6", "no cell has it. Allowed: 1, 2, 3, 4, 5."),
        ("seed=01", "no cell has it."),
        ("seed", "no cell has it."),
        ("=1", "no such key."),
        ("", "no such key."),
    ],
)
def test_an_only_that_means_no_cell_is_refused(cells, only, says):
    with pytest.raises(RequestError, match=re.escape(says)):
        select(cells, [only], None)


@pytest.mark.parametrize(
    "shard",
    [
        "0/3",
        "4/3",
        "1/0",
        "-1/3",
        "1",
        "1/",
        "/3",
        "/",
        "a/b",
        "1/3/4",
        "1.0/3",
        "²/3",
        " ",
        "",
        "1/" + "9" * 5_000,
    ],
)
def test_a_shard_that_does_not_exist_is_refused(cells, shard):
    with pytest.raises(RequestError, match=r"write I/N with 1 <= I <= N, such as 2/5"):
        select(cells, [], shard)
