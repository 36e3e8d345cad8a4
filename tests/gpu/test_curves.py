"""Curves on a GPU stray from the CPU's no further than rounding does.

The bound is that of tests/house/test_original.py: three times the spread of runs of the plain
implementation whose weights are moved by their last place in every step, here on the CPU.
"""

import pytest
import torch

from bench.worker.graphs import StepsOnDevice
from tests.builders.twins import ALLOWED, PER_ARM, RESOLUTION, STEPS, TWINS, move_by_one_place
from tests.perf.arms import Ours, Theirs

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

TOGETHER = 10


def curve(model: str, optimizer: str, in_graphs: bool) -> list[float]:
    """Losses on the GPU, kernel by kernel or in graphs."""
    trainer = Ours(model, optimizer, "cuda").trainer
    if not in_graphs:
        return [trainer.step(positions).item() for positions in trainer.positions[:STEPS]]
    losses = torch.zeros(STEPS, device="cuda")
    steps = StepsOnDevice(trainer.step, trainer.positions[:STEPS], losses, TOGETHER)
    steps.capture()
    assert list(steps.run(STEPS)) == [TOGETHER] * (STEPS // TOGETHER)
    return losses.tolist()


@pytest.mark.parametrize("in_graphs", [False, True])
@PER_ARM
def test_the_curve_lies_within_the_spread_of_runs_on_the_cpu(model, optimizer, in_graphs):
    plain = Theirs(model, optimizer)
    twins = [Theirs(model, optimizer) for _ in range(TWINS)]
    envelope = 0.0
    for step, loss in enumerate(curve(model, optimizer, in_graphs)):
        for seed, twin in enumerate(twins):
            move_by_one_place(twin.program.model, TWINS * step + seed)
        expected = plain.step()
        spread = max(abs(twin.step() - expected) for twin in twins)
        envelope = max(envelope, spread, RESOLUTION * expected)
        away = abs(loss - expected)
        assert away <= ALLOWED * envelope, f"step {step}: {away:.2g} away, spread {envelope:.2g}"
