"""Times of training by the moments at which lines came, for programs that tell none."""

from collections.abc import Callable
from typing import NamedTuple


class Mark(NamedTuple):
    """A moment from which training went on."""

    at: float  # of CLOCK_MONOTONIC, seconds
    step: int
    tokens: float | None
    evaluated: bool = False  # an evaluation ended here, after that step


class LineClock:
    """Charges time to training and evaluation by step lines and evaluation lines.

    Step lines that came at one moment share its time: what a program holds back and prints at once
    tells of its steps together. The time before an evaluation line is the evaluation's, and the
    training that followed it begins there.
    """

    def __init__(self, on_sample: Callable[[int, float], None]) -> None:
        self.spans: list[tuple[str, float, float]] = []  # (phase, begin, end)
        self.seconds: dict[str, float] = {}  # by phase
        self.clean = True  # no step lies unseen between an evaluation and its step lines
        self.rated_tokens = self.rated_s = 0.0
        self._on_sample = on_sample  # (steps, milliseconds), of the step lines up to now
        self._last: Mark | None = None
        self._open: Mark | None = None  # the last step line, until another moment comes

    def step_line(self, at: float, step: int, tokens: float | None) -> None:
        if self._open is not None and at > self._open.at:
            self.close()
        self._open = Mark(at, step, tokens)

    def evaluation_line(self, at: float, step: int | None) -> None:
        """`step`: the last one known."""
        self.close()
        if last := self._last:
            self._charge("eval", last.at, at)
            self.clean &= step is None or step - last.step <= 1
            self._last = Mark(at, last.step, None, evaluated=True)

    def close(self) -> None:
        """No more step lines come at this moment."""
        last, now, self._open = self._last, self._open, None
        if now is None:
            return
        if last is not None:
            if last.step == now.step and not last.evaluated:
                return  # another process of it prints the same
            self._charge("train", last.at, now.at)
            if last.evaluated:
                self.clean &= now.step - last.step <= 1
            elif last.step < now.step:
                self._sample(last, now)
        self._last = now

    def _sample(self, last: Mark, now: Mark) -> None:
        seconds = now.at - last.at
        self._on_sample(now.step - last.step, 1000 * seconds)
        if last.tokens is not None and now.tokens is not None:
            self.rated_tokens += now.tokens - last.tokens
            self.rated_s += seconds

    def _charge(self, phase: str, begin: float, end: float) -> None:
        if begin == end:
            return
        self.seconds[phase] = self.seconds.get(phase, 0.0) + end - begin
        if self.spans and self.spans[-1][0] == phase:
            begin = self.spans.pop()[1]
        self.spans.append((phase, begin, end))
