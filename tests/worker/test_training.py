"""The loop: when it evaluates, what it tells, and where it stops."""

import itertools
import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from bench.border.turns import PASSES_ON
from bench.worker import slices
from bench.worker.clocks import PhaseClock
from bench.worker.positions import BatchPositions
from bench.worker.training import DivergedError, Trainer
from bench.worker.windows import JoinedWindows
from tests.builders.fake_time import FakeTime
from tests.builders.worker_cells import Events, recorder


class Slow(nn.Module):
    """Takes `step_s` a training step; its loss at step `poisoned` alone is not finite."""

    def __init__(self, fake_time: FakeTime, step_s: float, poisoned: int = -1) -> None:
        super().__init__()
        self.fake_time, self.step_s, self.poisoned = fake_time, step_s, poisoned
        self.bias = nn.Parameter(torch.zeros(3))
        self.poison = math.nan
        self.calls = 0

    def forward(self, tokens: Tensor) -> Tensor:
        logits = self.bias.expand(*tokens.shape, 3)
        if self.calls == self.poisoned:
            logits = logits + torch.tensor([self.poison, 0.0, 0.0])
        self.calls += 1
        self.fake_time.pass_s(self.step_s)
        return logits

    def n_params_active(self) -> int:
        return self.bias.numel()


class FakeEvaluator:
    """Takes 100 s; gives the step's number as loss. Without a test split."""

    windows = ("train", "val")

    def __init__(self, fake_time: FakeTime, losses: dict[int, float] | None = None) -> None:
        self.fake_time, self.losses = fake_time, losses or {}

    def loss(
        self, model: nn.Module, split: str, step: int, beat: Callable[[], None], last: bool = False
    ) -> float:
        self.fake_time.pass_s(50)
        return self.losses.get(step, step + (0.5 if split == "val" else 0.0))


def trainer_of(
    fake_time: FakeTime, steps: int, step_s: float = 0.01, poisoned: int = -1, lr: float = 0.0
) -> Trainer:
    model = Slow(fake_time, step_s, poisoned)
    windows = JoinedWindows(torch.arange(50) % 3, (50,), 4)  # T = 4
    positions = BatchPositions(1, steps, 2, 1)  # B = 2, at 0 throughout
    optimizers = [torch.optim.SGD(model.parameters(), lr=lr)] if lr else []
    return Trainer(model, optimizers, windows, positions, PhaseClock())


@pytest.mark.parametrize("step_s", [0.001, 0.01, 0.1, 1.0])
@pytest.mark.parametrize(
    ("steps", "every", "expected"),
    [
        (10, 5, [0, 5, 10]),
        (10, 4, [0, 4, 8, 10]),
        (10, 1, list(range(11))),
        (10, 10, [0, 10]),
        (10, 11, [0, 10]),
        (1, 100, [0, 1]),
        (200, 70, [0, 70, 140, 200]),
    ],
)
def test_evaluations_are_at_0_every_and_after_the_last(fake_time, step_s, steps, every, expected):
    """However long the spans between heartbeats are."""
    trainer, events = trainer_of(fake_time, steps, step_s), []
    trainer.run(FakeEvaluator(fake_time), every, recorder(events))
    assert [point.step for point in trainer.curve] == expected
    assert [e["step"] for e in events if e["stage"] == "eval"] == expected
    assert (trainer.done, trainer.model.calls) == (steps, steps)


def test_training_time_has_every_step_and_no_evaluation(fake_time):
    trainer = trainer_of(fake_time, steps=25, step_s=0.2)
    trainer.run(FakeEvaluator(fake_time), 10, recorder([]))
    assert [sample.time_ms for sample in trainer.timer.samples] == pytest.approx([200.0] * 25)
    assert trainer.clock.seconds["train"] == pytest.approx(25 * 0.2)
    assert trainer.clock.seconds["eval"] == pytest.approx(4 * 100)
    assert [point.train_time_s for point in trainer.curve] == pytest.approx([0.0, 2.0, 4.0, 5.0])


def test_a_point_of_the_curve_has_its_tokens_and_both_losses(fake_time):
    trainer = trainer_of(fake_time, steps=6)
    trainer.run(FakeEvaluator(fake_time), 4, recorder([]))
    points = [(p.step, p.tokens, p.train_loss, p.val_loss) for p in trainer.curve]
    assert points == [(0, 0, 0.0, 0.5), (4, 32, 4.0, 4.5), (6, 48, 6.0, 6.5)]


def test_progress_is_told_about_twice_a_second(fake_time):
    trainer, events = trainer_of(fake_time, steps=1_000, step_s=0.01), []
    trainer.run(FakeEvaluator(fake_time), 1_000, recorder(events))
    told = [event for event in events if event["stage"] == "train"]
    assert told[0]["step"] == 1  # at once, so that its length is known
    steps = [event["step"] for event in told]
    assert {later - step for step, later in pairwise(steps[:-1])} == {50}
    assert steps[-1] == 1_000
    assert all(event["loss"] == pytest.approx(math.log(3)) for event in told)
    assert all(event["tokens_per_s"] == pytest.approx(8 / 0.01) for event in told)


# --- In turn with others (bench/border/turns.py) --------------------------------------------------


@pytest.fixture
def passed_on(fake_time: FakeTime, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When the turn was passed on; it comes back after 7 s."""
    moments: list[float] = []

    def wait() -> None:
        moments.append(fake_time.monotonic())
        fake_time.pass_s(7)

    monkeypatch.setattr(slices, "wait_for_turn", wait)
    return moments


def told_steps(events: Events, stage: str) -> list[int]:
    return [event["step"] for event in events if event["stage"] == stage]


@pytest.mark.parametrize("every", [1, 3, 50, 1_000])
def test_others_train_after_the_first_step_and_then_after_each_slice(fake_time, passed_on, every):
    """However often it evaluates: in a slice of one step, each step is the first after a wait."""
    trainer, events = trainer_of(fake_time, steps=100, step_s=0.01), []
    trainer.run(FakeEvaluator(fake_time), every, recorder(events), in_turn=True)
    waits = told_steps(events, PASSES_ON)
    assert waits[0] == 1
    assert all(abs(later - step - 20) <= 1 for step, later in pairwise(waits)), waits
    assert trainer.clock.seconds["wait"] == pytest.approx(7 * len(waits))
    assert trainer.clock.seconds["train"] == pytest.approx(1.0)


def test_a_step_that_is_longer_than_a_slice_is_a_slice(fake_time, passed_on):
    trainer, events = trainer_of(fake_time, steps=4, step_s=0.3), []
    trainer.run(FakeEvaluator(fake_time), 4, recorder(events), in_turn=True)
    assert told_steps(events, PASSES_ON) == [1, 2, 3]


def test_after_its_wait_it_says_that_it_trains(fake_time, passed_on):
    """Else a row would say of what ends there that it ended while it waited."""
    trainer, events = trainer_of(fake_time, steps=100, step_s=0.01), []
    trainer.run(FakeEvaluator(fake_time), 100, recorder(events), in_turn=True)
    after = [later for one, later in pairwise(events) if one["stage"] == PASSES_ON]
    assert {event["stage"] for event in after} == {"train"}


@pytest.mark.parametrize("in_turn", [True, False])
def test_one_that_is_done_at_once_waits_no_time_which_is_not_the_same_as_none(
    fake_time, passed_on, in_turn
):
    trainer = trainer_of(fake_time, steps=1)
    trainer.run(FakeEvaluator(fake_time), 1, recorder([]), in_turn)
    assert trainer.clock.seconds.get("wait") == (0.0 if in_turn else None)
    assert passed_on == []


@pytest.mark.parametrize("poison", [math.nan, -math.inf])  # a loss that is NaN, or infinite
@pytest.mark.parametrize("step_s", [0.001, 1.0])  # spans of 500 steps and of one
@pytest.mark.parametrize("step", [1, 2, 37, 99])
def test_the_first_step_that_is_not_finite_is_named(fake_time, step, step_s, poison):
    trainer = trainer_of(fake_time, 100, step_s, poisoned=step)
    trainer.model.poison = poison
    trainer.model.bias.data = torch.tensor([0.0, 1.0, 3.0])
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time), 1_000, recorder([]))
    before = trainer.losses[step - 1].item()
    says = f"the loss is not finite at step {step}; the last finite loss was {before:.6g}"
    assert (caught.value.step, str(caught.value)) == (step, says)
    assert math.isfinite(before)
    assert (trainer.done, trainer.tokens) == (step, step * 8)
    assert [point.step for point in trainer.curve] == [0]


def test_a_loss_that_is_never_finite_says_so(fake_time):
    trainer = trainer_of(fake_time, 10, poisoned=0)
    with pytest.raises(DivergedError, match=r"not finite at step 0; none was finite"):
        trainer.run(FakeEvaluator(fake_time), 5, recorder([]))
    assert trainer.done == 0


def test_a_poisoned_weight_diverges_at_the_step_that_meets_it(fake_time):
    """The update of step 0 makes the weights infinite; step 1 is the first to see them."""
    trainer = trainer_of(fake_time, 100, step_s=0.001, lr=math.inf)
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time), 50, recorder([]))
    assert caught.value.step == 1
    assert f"the last finite loss was {math.log(3):.6g}" in str(caught.value)


@pytest.mark.parametrize("step", [0, 20, 30])
def test_an_evaluation_that_is_not_finite_diverges_as_well(fake_time, step):
    trainer = trainer_of(fake_time, 30)
    with pytest.raises(DivergedError) as caught:
        trainer.run(FakeEvaluator(fake_time, {step: math.nan}), 10, recorder([]))
    last = f"the last finite loss was {step - 10 + 0.5:.6g}" if step else "none was finite"
    assert str(caught.value) == f"the loss is not finite at step {step}; {last}"
    assert [point.step for point in trainer.curve] == list(range(0, step, 10))


def test_gradients_of_one_step_do_not_reach_the_next(fake_time):
    trainer = trainer_of(fake_time, 2, lr=0.1)
    for _ in range(2):
        trainer.step(trainer.positions[0])
        assert trainer.model.bias.grad is None


def test_a_constant_rate_is_left_alone(fake_time):
    """An optimizer may set its own as it likes."""
    trainer = trainer_of(fake_time, 3, lr=0.1)
    (group,) = trainer.optimizers[0].param_groups
    group["lr"] = 0.5
    trainer.run(FakeEvaluator(fake_time), 3, recorder([]))
    assert group["lr"] == 0.5
    assert "initial_lr" not in group


def test_a_long_evaluation_says_that_it_lives(fake_time):
    class Chunked(FakeEvaluator):
        def loss(self, model, split, step, beat, last=False):
            for _ in range(10):
                self.fake_time.pass_s(0.3)
                beat()
            return 1.0

    events: Events = []
    trainer = trainer_of(fake_time, steps=2)
    trainer.run(Chunked(fake_time), 2, recorder(events))
    before_training = list(itertools.takewhile(lambda event: event["stage"] == "eval", events))
    assert len(before_training) == 10 + 1  # every other chunk, and the result
    assert [event for event in before_training if "val_loss" in event] == before_training[-1:]
