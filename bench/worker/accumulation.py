"""A step's batch that goes through the model in parts, because the whole does not fit."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from bench.border.logical import AttentionLogits, Stack


class Parts:
    """Gradients of the mean over a batch, part after part.

    All parts are of one size, so that the mean over the batch is the mean of theirs. Of attention
    logits the largest over all parts is left, as an optimizer that asks for them expects.
    """

    def __init__(self, count: int, stacks: Iterable[Stack]) -> None:
        self.count = count
        self.told = [stack.logits for stack in stacks if stack.logits is not None]

    def gradients(
        self, batch: Tensor, losses: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Of a batch (B, T + 1): the cross-entropy, and what is minimised; gradients of that.

        losses: both of a part (B / count, T + 1), with what leads to their gradients.
        """
        of_parts = []
        largest: list[Tensor | None] = [None] * len(self.told)
        for part in batch.split(len(batch) // self.count):
            loss, minimised = losses(part)
            (minimised / self.count).backward()
            of_parts.append((loss.detach(), minimised.detach()))
            largest = [_larger(*each) for each in zip(largest, self.told, strict=True)]
        for each, logits in zip(largest, self.told, strict=True):
            logits.largest = each
        loss, minimised = (torch.stack(each).mean() for each in zip(*of_parts, strict=True))
        return loss, minimised


def _larger(so_far: Tensor | None, told: AttentionLogits) -> Tensor | None:
    now = told.largest
    return now if so_far is None or now is None else torch.maximum(so_far, now)
