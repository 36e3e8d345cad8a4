"""The settings that trials try follow from the space, evenly spread and the same for every arm."""

import dataclasses
import itertools
import math
import warnings
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import qmc

from bench.border.options import AdamWOptions, OwnOptimizer, TrueMuonOptions
from bench.matrix.space import (
    DIGITS,
    PRIMES,
    grid,
    radical_inverse,
    sequence,
    settings_text,
    to_try,
    value_at,
)
from bench.matrix.tune_forms import Linear, Log

RATES = Log(log=[1e-4, 1e-1])
SPACE = {"lr": RATES, "adamw_lr": RATES, "weight_decay": [0.0, 0.01, 0.1]}


def points(space: Any, n: int) -> list[dict[str, Any]]:
    return list(itertools.islice(sequence(space), n))


# --- The sequence -------------------------------------------------------------------------------


def test_the_coordinates_are_those_of_scipys_halton_sequence():
    scipys = qmc.Halton(len(PRIMES), scramble=False)
    scipys.fast_forward(1)
    for index, point in enumerate(scipys.random(200), start=1):
        ours = [radical_inverse(index, base) for base in PRIMES]
        assert ours == pytest.approx(point, abs=1e-12)


@given(st.integers(0, 10**9), st.sampled_from(PRIMES))
def test_a_coordinate_is_from_0_to_below_1(index, base):
    assert 0 <= radical_inverse(index, base) < 1


@pytest.mark.parametrize("base", PRIMES)
def test_as_many_points_as_a_power_of_the_base_fill_every_cell_once(base):
    n = base**2
    cells = Counter(int(n * radical_inverse(index, base) + 1e-9) for index in range(n))
    assert cells == Counter(range(n))


@given(st.integers(1, 30), st.integers(0, 30))
def test_more_trials_begin_as_fewer_do(n, more):
    assert points(SPACE, n + more)[:n] == points(SPACE, n)


def test_a_key_has_the_same_values_whatever_stands_after_it():
    alone = [point["lr"] for point in points({"lr": RATES}, 20)]
    assert [point["lr"] for point in points(SPACE, 20)] == alone


def test_the_first_points_stay_as_they_are_in_published_results():
    """A change of them makes strangers of trials that were run."""
    assert points(SPACE, 4) == [
        {"lr": 0.003162, "adamw_lr": 0.001, "weight_decay": 0.0},
        {"lr": 0.0005623, "adamw_lr": 0.01, "weight_decay": 0.01},
        {"lr": 0.01778, "adamw_lr": 0.0002154, "weight_decay": 0.01},
        {"lr": 0.0002371, "adamw_lr": 0.002154, "weight_decay": 0.1},
    ]


# --- Values -------------------------------------------------------------------------------------

ENDS = st.floats(1e-9, 1e9).flatmap(
    lambda low: st.tuples(st.just(low), st.floats(1.001, 1e6).map(lambda times: low * times))
)
SHARES = st.floats(0, 1, exclude_max=True)


@given(ENDS, SHARES)
def test_a_value_of_a_range_lies_within_it_and_has_few_digits(ends, share):
    low, high = ends
    for values in (Log(log=[low, high]), Linear(linear=[low, high])):
        value = value_at(values, share)
        assert low <= value <= high
        assert value in (low, high) or value == float(f"{value:.{DIGITS}g}")


@given(ENDS, SHARES, SHARES)
def test_a_larger_share_is_no_smaller_value(ends, one, other):
    for values in (Log(log=list(ends)), Linear(linear=list(ends))):
        assert value_at(values, min(one, other)) <= value_at(values, max(one, other))


def test_the_middle_of_a_range_is_that_of_its_scale():
    assert value_at(RATES, 0.5) == pytest.approx(math.sqrt(1e-4 * 1e-1), rel=1e-3)
    assert value_at(Linear(linear=[1.0, 2.0]), 0.5) == 1.5


@given(st.lists(st.integers(), min_size=1, max_size=9, unique=True))
def test_every_value_of_a_list_has_an_equal_share(values):
    n = len(values)
    assert [value_at(values, (index + 0.5) / n) for index in range(n)] == values


# --- What is tried ------------------------------------------------------------------------------


@given(st.integers(2, 40), st.sampled_from([AdamWOptions(), TrueMuonOptions(), AdamWOptions(lr=2)]))
def test_there_are_as_many_trials_as_asked_for_all_different_and_the_untuned_first(trials, options):
    tried = to_try(SPACE, options, trials, "quasi-random")
    assert len(tried) == len(set(tried)) == trials
    assert tried[0] == options


def test_a_class_is_tuned_by_the_settings_that_the_matrix_gives_it():
    mine = OwnOptimizer("package:Mine", {"lr": 0.02, "rank": 4}, "0" * 64)
    tried = to_try(SPACE, mine, 5, "quasi-random")
    rates = [one.lr for one in to_try(SPACE, AdamWOptions(), 5, "quasi-random")]
    assert [one.settings["lr"] for one in tried] == [0.02, *rates[1:]]
    assert {one.settings["rank"] for one in tried} == {4}
    assert {one.code_sha256 for one in tried} == {"0" * 64}
    assert settings_text(SPACE, tried[0]) == '{"lr":0.02}'


@given(st.integers(2, 40))
def test_trials_change_what_the_space_names_and_nothing_else(trials):
    for options in (AdamWOptions(eps=1e-6), TrueMuonOptions(ns_steps=3)):
        for one in to_try(SPACE, options, trials, "quasi-random"):
            named = {key: getattr(options, key) for key in SPACE if hasattr(options, key)}
            assert dataclasses.replace(one, **named) == options


def test_all_arms_try_the_same_values_of_what_they_share():
    adamw = to_try(SPACE, AdamWOptions(), 20, "quasi-random")
    truemuon = to_try(SPACE, TrueMuonOptions(), 20, "quasi-random")
    for one, other in zip(adamw[1:], truemuon[1:], strict=True):
        assert (one.lr, one.weight_decay) == (other.lr, other.weight_decay)


def test_what_was_tried_is_not_tried_again():
    space = {"weight_decay": [0.01, 0.0, 0.1]}  # the first is the untuned one
    tried = to_try(space, AdamWOptions(), 3, "quasi-random")
    assert [one.weight_decay for one in tried] == [0.01, 0.0, 0.1]
    with pytest.raises(ValueError, match="holds 3 settings, the untuned one included"):
        to_try(space, AdamWOptions(), 4, "quasi-random")


def test_a_grid_is_every_combination_and_the_untuned_one():
    space = {"lr": [1e-3, 1e-2], "weight_decay": [0.0, 0.01, 0.1]}
    assert len(list(grid(space, ["lr", "weight_decay"]))) == 6
    tried = to_try(space, AdamWOptions(), 6, "grid")  # the untuned one is among them
    assert {(one.lr, one.weight_decay) for one in tried} == set(
        itertools.product([1e-3, 1e-2], [0.0, 0.01, 0.1])
    )
    assert len(to_try(space, TrueMuonOptions(lr=1.0), 7, "grid")) == 7


@pytest.mark.parametrize("trials", [5, 7, 100])
def test_a_grid_of_another_number_is_refused(trials):
    space = {"lr": [1e-3, 1e-2], "weight_decay": [0.0, 0.01, 0.1]}
    with pytest.raises(ValueError, match="is a grid of 6 settings"):
        to_try(space, AdamWOptions(), trials, "grid")


def test_settings_are_told_as_canonical_json():
    assert settings_text(SPACE, AdamWOptions()) == '{"lr":0.001,"weight_decay":0.01}'


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_try(SPACE, TrueMuonOptions(), 13, "quasi-random")
