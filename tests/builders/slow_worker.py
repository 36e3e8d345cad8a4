"""A worker that sleeps in one phase: the real one, with one function of that phase slowed down.

Called as SLOW_PHASE=... SLEEP_S=... SLEPT=file slow_worker.py CELL_FOLDER TOKENS; it notes in the
file when it slept.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PHASE = os.environ["SLOW_PHASE"]


def sleep() -> None:
    begin = time.monotonic()
    time.sleep(float(os.environ["SLEEP_S"]))
    Path(os.environ["SLEPT"]).write_text(f"{begin} {time.monotonic()}")


def slowed(function: Callable[..., Any], call: int = 1) -> Callable[..., Any]:
    """The same function, but for one call of it."""
    calls = 0

    def slow(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            sleep()
        return function(*arguments, **named)

    return slow


def slow_down(cell: Any) -> None:
    """`cell`: the module bench.worker.cell."""
    if PHASE == "data":
        cell.read_corpus = slowed(cell.read_corpus)
    elif PHASE == "build":
        cell.assert_covers = slowed(cell.assert_covers)
    elif PHASE in ("warmup", "train"):
        first = 1 if PHASE == "warmup" else cell.WARMUP_STEPS + 2
        cell.Trainer.step = slowed(cell.Trainer.step, first)
    elif PHASE == "eval":
        cell.Evaluator.loss = slowed(cell.Evaluator.loss)
    elif PHASE == "infer":
        cell.infer_times_ms = slowed(cell.infer_times_ms)
    elif PHASE == "teardown":
        cell.write_json = slowed(cell.write_json)


if PHASE == "startup":
    sleep()
sys.path.insert(0, str(Path(__file__).parents[2]))
from bench.worker import __main__ as worker  # noqa: E402

if PHASE == "import":
    sleep()
from bench.worker import cell  # noqa: E402

slow_down(cell)
sys.exit(worker.main())
