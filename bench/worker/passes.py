"""The forward and backward passes of a step whose optimizer asks for them, by a closure."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

# Leaves gradients; returns the cross-entropy, and what was minimised.
Gradients = Callable[[], tuple[Tensor, Tensor]]


class Passes:
    """A closure: each call computes gradients anew. `loss` is that of the first, before any update.

    What a pass leaves in a model's buffers for later steps, as a batch norm its averages or a
    router its bias, it leaves once a step: every pass begins with the buffers that the first began
    with, and what the first has left stays.
    """

    def __init__(self, model: nn.Module, gradients: Gradients) -> None:
        self.model = model
        self.gradients = gradients
        self.count = 0
        self.loss: Tensor | None = None
        self.before = self._copies()

    def __call__(self) -> Tensor:
        self.model.zero_grad()
        left = self._copies() if self.count else None
        if left is not None:
            self._put(self.before)
        with torch.enable_grad():  # optimizers call this where it is off
            loss, minimised = self.gradients()
        if left is not None:
            self._put(left)
        else:
            self.loss = loss.detach()
        self.count += 1
        return minimised

    def _copies(self) -> dict[str, Tensor]:
        return {name: buffer.clone() for name, buffer in self.model.named_buffers()}

    @torch.no_grad()
    def _put(self, copies: dict[str, Tensor]) -> None:
        """One that the first pass made has no copy from before it, and is left as it is."""
        for place, module in self.model.named_modules():
            for name, buffer in module._buffers.items():
                copy = copies.get(f"{place}.{name}" if place else name)
                if buffer is None or copy is None:
                    continue
                if buffer.shape == copy.shape:
                    buffer.copy_(copy)
                else:
                    module._buffers[name] = copy.clone()
