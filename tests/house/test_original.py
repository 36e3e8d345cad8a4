"""The baseline of `make perf` computes what we do; ours strays no further than rounding does."""

import pytest
import torch

from tests.builders.twins import PER_ARM, STEPS, check_within, plain_curve
from tests.perf.arms import Ours, Theirs


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Several threads on a busy machine wait for each other most of the time."""
    torch.set_num_threads(1)


@PER_ARM
def test_twenty_losses_are_those_of_the_original_way(model, optimizer):
    ours, theirs = Ours(model, optimizer), Theirs(model, optimizer)
    for _ in range(20):
        assert ours.step() == pytest.approx(theirs.step(), rel=1e-4)


@pytest.mark.slow
@PER_ARM
def test_the_curve_lies_within_the_spread_of_runs_that_differ_in_the_last_place(model, optimizer):
    ours = Ours(model, optimizer)
    check_within((ours.step() for _ in range(STEPS)), plain_curve(model, optimizer))
