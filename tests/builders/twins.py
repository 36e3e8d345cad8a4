"""Runs of the plain implementation whose weights differ in the last place, and what they allow.

Training is chaotic: two runs that differ in the last place of a weight part in the end. So ours is
held against the spread of such runs of the plain implementation. Their weights are moved after
every step, since sums in another order round otherwise in every step too: moved once, at the start,
they stay closer to each other for some 40 steps than any other order of sums does.
"""

from collections.abc import Iterable, Iterator
from itertools import product

import pytest
import torch

from bench.worker.data import Tokens
from tests.perf import original
from tests.perf.arms import MODEL_OPTIONS, OPTIMIZER_OPTIONS, Theirs

STEPS = 100
TWINS = 6  # runs from weights that differ in the last place
ALLOWED = 3.0  # times their spread
RESOLUTION = 1e-6  # of a loss in float32: what a sum in another order may move it by

ARMS = list(product(MODEL_OPTIONS, OPTIMIZER_OPTIONS))
PER_ARM = pytest.mark.parametrize(("model", "optimizer"), ARMS, ids=["-".join(arm) for arm in ARMS])

Point = tuple[
    float, float
]  # the loss before a step, and the widest spread of the twins up to there


def plain_curve(model: str, optimizer: str, tokens: Tokens | None = None) -> Iterator[Point]:
    """Of the plain implementation on this text (`pydoc` where none is given), step by step."""
    plain, *twins = (Theirs(model, optimizer, tokens) for _ in range(1 + TWINS))
    envelope = 0.0
    for step in range(STEPS):
        for seed, twin in enumerate(twins):
            _move_by_one_place(twin.program.model, TWINS * step + seed)
        loss = plain.step()
        spread = max(abs(twin.step() - loss) for twin in twins)
        envelope = max(envelope, spread, RESOLUTION * loss)
        yield loss, envelope


def check_within(losses: Iterable[float], curve: Iterable[Point]) -> None:
    """As many losses as there are, step by step, against the plain ones."""
    for step, (loss, (expected, envelope)) in enumerate(zip(losses, curve, strict=False)):
        away = abs(loss - expected)
        assert away <= ALLOWED * envelope, f"step {step}: {away:.2g} away, spread {envelope:.2g}"


def _move_by_one_place(model: original.Model, seed: int) -> None:
    """Every weight to its next neighbour in float32, up or down by chance."""
    chance = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            up = torch.rand(parameter.shape, generator=chance) < 0.5
            towards = torch.where(up, torch.inf, -torch.inf)
            parameter.copy_(torch.nextafter(parameter, towards))
