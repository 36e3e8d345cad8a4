"""Learning rates over a run, and clipped gradients: the shares, and what a cell does with them."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bench.border.options import TrainOptions
from bench.worker.schedule import left_alone, rate_share, set_rates

# --- The shares ---------------------------------------------------------------------------------


@st.composite
def schedules(draw: st.DrawFn) -> TrainOptions:
    """Any that a matrix may ask for."""
    steps = draw(st.integers(1, 60))
    warmup = draw(st.integers(0, steps - 1))
    schedule = draw(st.sampled_from(["constant", "cosine", "wsd"]))
    return TrainOptions(
        steps=steps,
        schedule=schedule,
        warmup_steps=warmup,
        decay_steps=draw(st.integers(1, steps - warmup)) if schedule == "wsd" else 0,
        min_lr_share=draw(st.floats(0, 0.99)) if schedule != "constant" else 0.0,
    )


def shares(train: TrainOptions) -> list[float]:
    return [rate_share(train, step) for step in range(train.steps)]


@given(schedules())
def test_a_share_is_above_the_minimum_and_at_most_one(train):
    for step, share in enumerate(shares(train)):
        least = 0 if step < train.warmup_steps else train.min_lr_share
        assert least < share <= 1


@given(schedules())
def test_rates_rise_to_the_base_rate_and_never_again(train):
    of_steps, warmup = shares(train), train.warmup_steps
    rising, after = of_steps[:warmup], of_steps[warmup:]
    assert all(before < share for before, share in pairwise(rising))
    assert all(before >= share for before, share in pairwise(after))
    assert after[0] == pytest.approx(1)
    assert not rising or rising[-1] == 1


@given(schedules())
def test_a_decay_reaches_its_minimum_one_step_after_the_last(train):
    end = rate_share(train, train.steps)
    assert end == pytest.approx(1 if train.schedule == "constant" else train.min_lr_share)


@given(schedules().filter(lambda train: train.schedule == "wsd"))
def test_wsd_keeps_the_base_rate_until_its_decay(train):
    stable = range(train.warmup_steps, train.steps - train.decay_steps + 1)
    assert all(rate_share(train, step) == pytest.approx(1) for step in stable)


def test_cosine_is_pytorchs_after_its_warm_up():
    train = TrainOptions(steps=30, schedule="cosine", warmup_steps=5, min_lr_share=0.1)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=2.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25, eta_min=0.2)
    for step in range(5, 30):
        assert 2.0 * rate_share(train, step) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_a_schedule_worked_by_hand():
    wsd = TrainOptions(steps=8, schedule="wsd", warmup_steps=2, decay_steps=4, min_lr_share=0.2)
    assert shares(wsd) == pytest.approx([0.5, 1, 1, 1, 1, 0.8, 0.6, 0.4])
    cosine = TrainOptions(steps=4, schedule="cosine")
    assert shares(cosine) == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    assert shares(TrainOptions(steps=4, warmup_steps=2)) == [0.5, 1, 1, 1]


# --- The rates ----------------------------------------------------------------------------------


def test_every_group_has_its_share_of_its_own_rate():
    first = torch.optim.SGD([{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1, 4)])
    second = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=0.5)
    for share in (0.5, 0.1, 1.0):  # of the base rate each time, not of the rate before
        set_rates([first, second], share)
        rates = [group["lr"] for each in (first, second) for group in each.param_groups]
        assert rates == [1 * share, 4 * share, 0.5 * share]
        assert all(type(rate) is float for rate in rates)


def test_a_group_without_a_rate_is_refused():
    class Rateless(torch.optim.Optimizer):
        pass

    rateless = Rateless([nn.Parameter(torch.zeros(1))], {})
    with pytest.raises(ValueError, match="Rateless has no learning rate `lr` that a schedule"):
        set_rates([rateless], 0.5)


def test_every_rate_of_a_group_is_changed_and_what_is_none_is_named():
    given = {"lr": 0.1, "adamw_lr": 0.02, "max_lr": 1.0, "lr_decay": 0.5, "use_lr": True}
    group = torch.optim.SGD([nn.Parameter(torch.zeros(1))]).param_groups[0] | given
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))])
    optimizer.param_groups = [group]
    for share in (0.5, 0.25):
        set_rates([optimizer], share)
    found = {name: optimizer.param_groups[0][name] for name in given}
    assert found == given | {"lr": 0.025, "adamw_lr": 0.005}
    assert left_alone([optimizer]) == ["lr_decay", "max_lr", "use_lr"]
