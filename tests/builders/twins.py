"""Runs of the plain implementation whose weights differ in the last place, and what they allow."""

from itertools import product

import pytest
import torch

from tests.perf import original
from tests.perf.arms import MODEL_OPTIONS, OPTIMIZER_OPTIONS

STEPS = 100
TWINS = 6  # runs from weights that differ in the last place
ALLOWED = 3.0  # times their spread
RESOLUTION = 1e-6  # of a loss in float32: what a sum in another order may move it by

ARMS = list(product(MODEL_OPTIONS, OPTIMIZER_OPTIONS))
PER_ARM = pytest.mark.parametrize(("model", "optimizer"), ARMS, ids=["-".join(arm) for arm in ARMS])


def move_by_one_place(model: original.Model, seed: int) -> None:
    """Every weight to its next neighbour in float32, up or down by chance."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            up = torch.rand(parameter.shape, generator=chance) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf)
            parameter.copy_(torch.nextafter(parameter, towards))
