"""The table of batch positions, drawn part by part, against the same in one piece."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.worker import positions
from bench.worker.data import hash_tensor
from bench.worker.positions import BatchPositions
from bench.worker.streams import numpy_stream


def in_one_piece(seed: int, steps: int, batch_size: int, n_windows: int) -> np.ndarray[Any, Any]:
    return numpy_stream(seed, "batches").integers(0, n_windows, size=(steps, batch_size))


# Below and above what numpy draws from 32 bits; the first and the last of either, and powers of 2.
RANGES = [1, 2, 3, 1_000, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**32 + 1, 10**11, 2**62 + 1]


@settings(max_examples=150, deadline=None, derandomize=True, database=None)
@given(
    seed=st.integers(0, 2**63 - 1),
    steps=st.integers(1, 40),
    batch_size=st.integers(1, 9),
    n_windows=st.sampled_from(RANGES) | st.integers(1, 2**40),
    part=st.integers(1, 50),
    order=st.randoms(use_true_random=False),
)
def test_parts_are_those_of_the_whole_table_in_whatever_order(
    seed: int, steps: int, batch_size: int, n_windows: int, part: int, order: Any
) -> None:
    whole = torch.from_numpy(in_one_piece(seed, steps, batch_size, n_windows))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "PART", part)
        table = BatchPositions(seed, steps, batch_size, n_windows)
        for step in order.sample(range(steps), steps):
            assert torch.equal(table[step], whole[step])
        begin = order.randrange(steps)
        end = order.randint(begin + 1, steps)
        assert torch.equal(table.between(begin, end), whole[begin:end])
        assert table.order_hash == hash_tensor(whole)
        assert torch.equal(torch.stack(list(table.first(7))), whole[:7])
        assert torch.equal(torch.stack(list(table.to(torch.device("cpu")))), whole)


def test_a_part_of_the_usual_size_ends_within_the_table() -> None:
    """Two million numbers, in three parts of rows that do not fill them."""
    asked = (5, 700_001, 3, 123_456_789)
    table = BatchPositions(*asked)
    whole = torch.from_numpy(in_one_piece(*asked))
    assert table.order_hash == hash_tensor(whole)
    for step in (0, 349_524, 349_525, 699_049, 699_050, 700_000, 1):
        assert torch.equal(table[step], whole[step])


@pytest.mark.parametrize("step", [-1, 3])
def test_there_is_no_row_beyond_the_table(step: int) -> None:
    with pytest.raises(IndexError, match="of 3"):
        BatchPositions(1, 3, 2, 10)[step]


def test_a_table_of_more_than_any_memory_holds_begins_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its hash is of what comes first, whatever the length of the run."""
    monkeypatch.setattr(positions, "HASHED", 2_500_000)
    table = BatchPositions(1, 100_000_000, 1_000_000, 50_000)
    assert table[0].shape == (1_000_000,)
    assert table.order_hash == hash_tensor(table.between(0, 3))
