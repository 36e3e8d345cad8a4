"""Clocks charge what is named; step times are those of steps."""

import time

import pytest
import torch

from bench.border.spec import PHASES
from bench.records.columns import RUN_COLUMNS
from bench.worker import clocks
from bench.worker.clocks import PhaseClock, StepSample, StepTimer
from tests.builders.fake_time import FakeTime


def test_each_phase_is_charged_its_own_time_and_the_rest_to_none(fake_time):
    clock = PhaseClock()
    fake_time.pass_s(1)
    with clock.during("data"):
        fake_time.pass_s(2)
    fake_time.pass_s(4)
    with clock.during("train"):
        fake_time.pass_s(8)
    with clock.during("eval"):
        fake_time.pass_s(16)
    with clock.during("train"):
        fake_time.pass_s(32)
    assert clock.seconds == {"data": 2, "train": 40, "eval": 16}
    assert clock.phase == "train"


def test_a_phase_may_have_begun_earlier(fake_time):
    started = fake_time.monotonic()
    fake_time.pass_s(3)
    clock = PhaseClock()
    with clock.during("import", since=started):
        fake_time.pass_s(1)
    assert clock.seconds == {"import": 4}


def test_a_phase_that_fails_is_charged_too_and_stays_the_last(fake_time):
    clock = PhaseClock()

    def build() -> None:
        with clock.during("build"):
            fake_time.pass_s(5)
            raise KeyError

    with pytest.raises(KeyError):
        build()
    assert clock.seconds == {"build": 5}
    assert clock.phase == "build"


def test_a_phase_that_no_column_knows_is_a_mistake():
    with pytest.raises(AssertionError, match="lunch"), PhaseClock().during("lunch"):
        pass
    assert {f"{phase}_time_s" for phase in PHASES} <= set(RUN_COLUMNS)


def test_a_phase_waits_for_the_device_at_both_edges(fake_time, monkeypatch):
    """What the device still did before is not charged; what it does for the phase is."""
    left_s = 10.0  # of work that the device was given and has not done yet

    def wait(device: torch.device) -> None:
        nonlocal left_s
        fake_time.pass_s(left_s)
        left_s = 0.0

    monkeypatch.setattr(clocks, "synchronise", wait)
    clock = PhaseClock()
    with clock.during("train"):
        fake_time.pass_s(1)
        left_s += 20
    assert clock.seconds == {"train": 21}


def test_step_times_are_those_between_marks_of_one_span(fake_time):
    timer = StepTimer(torch.device("cpu"))
    for seconds in ((0.001, 0.002), (0.004,)):
        timer.begin_span()
        for step in seconds:
            fake_time.pass_s(step)
            timer.steps_done()
        timer.end_span()
        fake_time.pass_s(60)  # an evaluation
    assert timer.samples == [StepSample(0, 1, 1.0), StepSample(1, 1, 2.0), StepSample(2, 1, 4.0)]


class FakeEvent:
    """An event on a stream whose work takes as long as the fake clock passes."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.monotonic()

    def elapsed_time(self, end: "FakeEvent") -> float:
        return (end.at - self.at) * 1000


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """On a pretended CUDA device: one entry each time that it is waited for."""
    found: list[None] = []
    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(clocks, "synchronise", lambda device: found.append(None))
    return found


def timed(timer: StepTimer, fake_time: FakeTime, spans: list[int], step_s: float) -> None:
    for steps in spans:
        timer.begin_span()
        for _ in range(steps):
            fake_time.pass_s(step_s)
            timer.steps_done()
        timer.end_span()


def test_sampled_on_cuda_waits_once_a_span_and_never_between_steps(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "sampled")
    timed(timer, fake_time, [1, 50], step_s=0.002)
    assert len(waits) == 2
    assert [sample.steps for sample in timer.samples] == [1] * 51  # a step is long enough by itself
    assert [sample.time_ms for sample in timer.samples] == pytest.approx([2.0] * 51)


def test_samples_of_short_steps_span_several(fake_time, waits):
    """A first span of one step tells how long a step is: 0.3 ms, so that 4 make a millisecond."""
    timer = StepTimer(torch.device("cuda"), "sampled")
    timed(timer, fake_time, [1, 10], step_s=0.0003)
    assert [(s.last_step, s.steps) for s in timer.samples] == [(0, 1), (4, 4), (8, 4), (10, 2)]
    assert [s.time_ms for s in timer.samples] == pytest.approx([0.3, 1.2, 1.2, 0.6])


def test_every_waits_for_the_device_after_each_step(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "every")
    timed(timer, fake_time, [5], step_s=0.0003)
    assert len(waits) == 5 + 1
    assert [s.steps for s in timer.samples] == [1] * 5


def test_off_counts_steps_and_times_none(fake_time, waits):
    timer = StepTimer(torch.device("cuda"), "off")
    timed(timer, fake_time, [5, 3], step_s=0.01)
    assert (timer.steps, timer.samples, waits) == (8, [], [])
