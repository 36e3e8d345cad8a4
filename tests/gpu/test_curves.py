"""Curves stray from the stored ones of a CPU no further than rounding does.

The bound is that of tests/house/test_original.py: three times the spread of runs of the plain
implementation whose weights are moved by their last place in every step.
"""

from itertools import islice

import pytest

from bench.border.options import FIRST_STEPS
from tests.builders.twins import ARMS, PER_ARM, STEPS, check_within, plain_curve
from tests.builders.words import word_tokens
from tests.gpu import curves
from tests.perf.arms import Ours

TOGETHER = 5
FEW = 23  # first steps on a CPU, where a graph holds all tensors of its steps


def curve(ours: Ours, steps: int, in_graphs: bool) -> list[float]:
    """Losses, kernel by kernel, or in graphs once the first steps are done."""
    if not in_graphs:
        return [ours.step() for _ in range(steps)]
    on_device = ours.on_device(TOGETHER)
    assert list(on_device.run(FIRST_STEPS)) == [1] * FIRST_STEPS
    on_device.capture()
    left = steps - FIRST_STEPS
    assert list(on_device.run(left)) == [TOGETHER] * (left // TOGETHER) + [1] * (left % TOGETHER)
    return on_device.losses[:steps].tolist()


@pytest.mark.parametrize("in_graphs", [False, True], ids=["kernel by kernel", "in graphs"])
@PER_ARM
def test_a_curve_lies_within_the_spread_of_runs_on_a_cpu(device, model, optimizer, in_graphs):
    steps = FEW if device == "cpu" else STEPS
    losses = curve(Ours(model, optimizer, device, word_tokens()), steps, in_graphs)
    assert len(losses) == steps
    check_within(losses, curves.stored(model, optimizer))


@PER_ARM
def test_the_stored_curves_are_those_of_the_plain_implementation(model, optimizer):
    """Their first steps, in which runs on two kinds of CPU have hardly parted."""
    stored = curves.stored(model, optimizer)
    assert len(stored) == STEPS
    found = islice(plain_curve(model, optimizer, word_tokens()), 4)
    for (loss, envelope), (now, spread) in zip(stored, found, strict=False):
        assert loss == pytest.approx(now, rel=1e-5)
        assert spread / 10 <= envelope <= spread * 10
    assert [envelope for _, envelope in stored] == sorted(envelope for _, envelope in stored)
    assert stored[-1][0] < stored[0][0] - 0.5  # it learns


def test_making_the_curves_writes_every_arm_and_step(tmp_path, monkeypatch):
    monkeypatch.setattr(curves, "FILE", tmp_path / "curves.csv")
    monkeypatch.setattr(curves, "plain_curve", lambda *arm: iter([(3.0, 1e-6), (2.5, 2e-6)]))
    curves.main()
    for arm in ARMS:
        assert curves.stored(*arm) == [(3.0, 1e-6), (2.5, 2e-6)]
