"""Graphs tried out before a run: the first steps one by one, and once more in graphs.

That shows what a class keeps outside its tensors wherever it keeps it, unless these steps do not
need it, or hardly feel it.
"""

from collections import deque
from collections.abc import Callable

import torch

from bench.border.options import FIRST_STEPS
from bench.worker.evaluation import cross_entropy
from bench.worker.graphs import agree, disagreement
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
