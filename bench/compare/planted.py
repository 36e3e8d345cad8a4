"""A slowdown planted in a checkout, to see whether it is found: each step takes longer by a share.

Time is added where steps are timed, so that it is a share of what the timer sees: a batch, a pass,
the optimizers, or a whole graph of steps. The processor is kept busy: a sleep would end late.
"""

from pathlib import Path

from bench.errors import RequestError

TRAINING = Path("bench") / "worker" / "training.py"
# What the planted code counts on, word for word.
PLACES = (
    "import time\n",
    "import torch\n",
    "self.timer = StepTimer(",
    "self.timer.begin_span()",
    "self.timer.steps_done(",
)

SLOWER = '''

class _Slower(StepTimer):
    """Every launch of training steps takes a share of its own time longer."""

    def begin_span(self) -> None:
        super().begin_span()
        self._launched = time.perf_counter()

    def steps_done(self, steps: int = 1) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        until = now + {share!r} * (now - self._launched)
        while time.perf_counter() < until:
            pass
        super().steps_done(steps)
        self._launched = time.perf_counter()


StepTimer = _Slower
'''


def slow_down(root: Path, share: float) -> None:
    """Make each training step of a checkout take `share` of its own time longer.

    Raises:
        RequestError: for a revision whose steps are timed otherwise.
    """
    file = root / TRAINING
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if missing := [place for place in PLACES if place not in text]:
        raise RequestError(
            f"no slowdown can be planted in this revision: its {TRAINING} has no "
            f"`{missing[0].strip()}`. Name a newer revision."
        )
    file.write_text(text + SLOWER.format(share=share), encoding="utf-8")
