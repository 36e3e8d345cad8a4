"""Training in slices, between which others train on the same CPUs (bench/border/turns.py)."""

from collections.abc import Callable

from bench.border.turns import PASSES_ON, SLICE_S
from bench.worker.clocks import PhaseClock
from bench.worker.lifeline import wait_for_turn


class Slices:
    """Slices of training time: evaluations may come between any two steps, and cut none short."""

    def __init__(self, clock: PhaseClock, say: Callable[..., None]) -> None:
        self.clock, self.say = clock, say
        self.before_s = clock.seconds["train"]
        clock.seconds["wait"] += 0.0  # it takes turns, also if it is done before it would pass on

    @property
    def left_s(self) -> float:
        """Of this slice."""
        return SLICE_S - (self.clock.seconds["train"] - self.before_s)

    def pass_on(self, step: int) -> None:
        """Let others train a slice each."""
        with self.clock.during("wait"):
            self.say(stage=PASSES_ON, step=step)
            wait_for_turn()
        self.say(stage="train", step=step)  # if it ends now, it is not while it waits
        self.before_s = self.clock.seconds["train"]
