"""Optimizers of two settings are told apart by what they hold, wherever they keep it."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from bench.worker.likeness import settings_held


def held(keep: Callable[[torch.optim.Optimizer, float], Any], rate: float) -> str:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=0.1)
    keep(optimizer, rate)
    return settings_held([optimizer])


def by_function(optimizer: Any, rate: float) -> None:
    optimizer.pace = lambda step: rate * step


def by_ring(optimizer: Any, rate: float) -> None:
    optimizer.config = SimpleNamespace(rate=rate)
    optimizer.config.owner = optimizer.config


KEEPS: dict[str, Callable[[Any, float], Any]] = {
    "group": lambda optimizer, rate: optimizer.param_groups[0].update(lr=rate),
    "attribute": lambda optimizer, rate: setattr(optimizer, "rate", rate),
    "dict": lambda optimizer, rate: setattr(optimizer, "rates", {"x": [rate, {3: rate}]}),
    "tensor": lambda optimizer, rate: setattr(optimizer, "rate", torch.tensor(rate)),
    "function": by_function,
    "object": by_ring,
}


@pytest.mark.parametrize("place", KEEPS)
def test_a_setting_counts_wherever_it_is_kept(place: str) -> None:
    assert held(KEEPS[place], 0.5) == held(KEEPS[place], 0.5) != held(KEEPS[place], 0.25)


def test_what_trains_and_what_was_only_written_does_not_count() -> None:
    def of(rate: float, weight: float) -> str:
        group = {"params": [nn.Parameter(torch.full((2,), weight))], "lr": 0.5}
        return settings_held([torch.optim.SGD([group], lr=rate)])

    assert of(0.1, 1.0) == of(0.2, 3.0)
