"""Tried out before a run: the first steps in two ways that must have the same losses.

One by one and in graphs; straight on and from a state that was kept. That shows what a class keeps
elsewhere, wherever it keeps it, unless these steps do not need it, or hardly feel it.
"""

import io
from collections import deque
from collections.abc import Callable

import torch

from bench.border.options import FIRST_STEPS
from bench.border.spec import RunSpec
from bench.worker.classes import WrongClassError
from bench.worker.evaluation import cross_entropy
from bench.worker.graphs import agree, disagreement
from bench.worker.state import put_back, read, same, taken
from bench.worker.training import Trainer

# Steps launched at once; an evaluation comes after each launch.
LAUNCHES = (1, 2, 2, 1, 2)


def try_graphs(trainer: Trainer, begin: Callable[[], None]) -> None:
    """Both ways from the same start, to which `begin` leads back; these steps count for nothing.

    Raises:
        WrongClassError: for a step that a graph would not repeat, or where losses do not agree.
    """
    told = []
    for in_graphs in (False, True):
        begin()
        told.append(_losses(trainer, in_graphs))
    for alone, by_graph in zip(*told, strict=True):
        if not agree(by_graph, alone):
            raise disagreement("a loss of the first steps", by_graph, alone)


def _losses(trainer: Trainer, in_graphs: bool) -> list[float]:
    """Of the first steps, and of the evaluations between them."""
    losses, evaluations = torch.zeros_like(trainer.losses), []
    most = len(trainer.positions) - FIRST_STEPS
    steps = trainer.steps_on_device(losses, min(max(LAUNCHES), most))
    deque(steps.run(FIRST_STEPS - 1), maxlen=0)
    if in_graphs:
        deque(steps.run(1), maxlen=0)
        steps.capture()
    else:
        trainer.read = steps.watched()
    done = FIRST_STEPS
    for launched in LAUNCHES:
        if done + launched > len(trainer.positions):
            break
        deque(steps.run(launched), maxlen=0)
        done += launched
        batch = trainer.windows.at(trainer.positions[0])
        with torch.no_grad(), trainer.evaluating():
            loss = cross_entropy(trainer.model(batch[:, :-1]), batch[:, 1:])
        evaluations.append(loss.item())
        steps.check()
    return [*losses[:done].tolist(), *evaluations]


def try_state(trainer: Trainer, spec: RunSpec, begin: Callable[[], None]) -> None:
    """Go on from a state as a checkpoint keeps it; `begin` leads back to the start before.

    Raises:
        WrongClassError: where a class cannot go on from it as if nothing had been.
    """
    before = min(FIRST_STEPS, len(trainer.positions) - 1)
    after = min(FIRST_STEPS, len(trainer.positions) - before)
    if not before:
        return
    begin()
    trainer.warm_up(before)
    trainer.done = before
    file = io.BytesIO()
    try:
        torch.save(taken(trainer), file)
        straight = _next_losses(trainer, after)
        begin()
        file.seek(0)
        state = read(file)
        put_back(trainer, spec, state)
        whole = all(same(state[part], taken(trainer)[part]) for part in ("model", "optimizers"))
        again = _next_losses(trainer, after)
    except Exception as error:
        raise WrongClassError(f"{_NOT_KEPT}: {type(error).__name__}: {error}. {_REMEDY}") from error
    if not whole:
        raise WrongClassError(f"{_NOT_KEPT}: what it took back differs from it. {_REMEDY}")
    on_cpu = trainer.windows.device.type == "cpu"
    for one, other in zip(straight, again, strict=True):
        if one != other if on_cpu else not agree(one, other):
            told = f"the loss after it is {other:.9g} instead of {one:.9g}"
            raise WrongClassError(f"{_NOT_KEPT}: {told}. {_REMEDY}")


_NOT_KEPT = (
    "limits.checkpoint_every: the model or the optimizer does not go on from a state that was kept"
)
_REMEDY = (
    "Keep all that a step needs in parameters and buffers of the model, and in "
    "self.state[parameter] and self.param_groups of the optimizer, as tensors, numbers and texts; "
    "or leave out checkpoint_every"
)


def _next_losses(trainer: Trainer, steps: int) -> list[float]:
    trainer.warm_up(steps)
    found: list[float] = trainer.losses[trainer.done : trainer.done + steps].tolist()
    return found
