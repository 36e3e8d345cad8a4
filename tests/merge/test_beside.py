"""Cells that ran beside others: what the report and a comparison say of their times."""

import pytest

from bench.compare.judge import compare
from bench.compare.pairing import join, read_version
from bench.compare.write import left_out
from bench.merge.coverage import notes
from bench.merge.merging import merge
from bench.records.columns import kind_of
from bench.records.kinds import TEXT, WHOLE
from tests.builders.results import Results


def cells(folder: Results, *neighbours: object, optimizer="adamw") -> Results:
    """An ok cell for each of seeds 1, 2, ..."""
    for seed, count in enumerate(neighbours, start=1):
        folder.ended(folder.planned(optimizer=optimizer, seed=seed), neighbours=count)
    return folder


def told(*folders: Results) -> str:
    return " ".join(notes(merge([folder.write() for folder in folders])))


@pytest.mark.parametrize("neighbours", [(0, 0), ("", ""), (0, "")])
def test_nothing_is_said_of_cells_that_were_alone_or_of_which_nothing_is_known(new, neighbours):
    assert told(cells(new(), *neighbours)) == ""


def test_times_of_cells_beside_others_are_named_as_such(new):
    said = told(cells(new(), 1, 2))
    assert said.startswith("All ok runs were made beside others")
    assert "times include what that costs" in said
    assert "mix" not in said


def test_an_arm_of_both_kinds_is_named(new):
    folder = cells(cells(new(), 1, 0, 1), 1, 1, 1, optimizer="muon")
    said = told(folder)
    assert said.startswith("5 of 6 ok runs were made beside others")
    assert said.endswith("Times of gpt + adamw, cpu mix such runs with runs that were alone.")


def test_two_machines_do_not_mix(new):
    first, second = cells(new("first"), 1), new("second")
    second.ended(second.planned(seed=2), neighbours=0, host_id="host2")
    assert "mix" not in told(first, second)


def test_of_a_cell_that_failed_there_are_no_times(new):
    folder = new()
    folder.cell(status="crashed", neighbours=1)
    assert told(folder) == ""


@pytest.mark.parametrize(
    ("base", "head", "said"),
    [
        ((0, 0), (1, 1), ["BASE ran one cell at a time, NEW several cells at once: "]),
        ((1, 0), (2, 1), ["BASE ran some cells alone and some at once, NEW several cells at once"]),
        ((1, 2), (2, 1), []),
        (("", ""), (2, 1), []),
    ],
)
def test_a_comparison_says_that_only_one_side_ran_alone(new, base, head, said):
    sides = [cells(new(name), *counts) for name, counts in (("base", base), ("new", head))]
    found = compare(join(*(read_version(side.write()) for side in sides)), [], False)
    sentences = list(left_out(found))
    assert len(sentences) == len(said)
    assert all(sentence.startswith(one) for sentence, one in zip(sentences, said, strict=True))


def test_the_count_is_a_whole_number_and_the_ids_are_text():
    assert (kind_of("neighbours"), kind_of("neighbour_ids")) == (WHOLE, TEXT)
