"""Optimizers whose state has its place in memory from the start, and keeps it."""

from typing import Any

import torch
from torch import Tensor


class KeepsPlace(torch.optim.Optimizer):
    """State of a parameter is made once and written to in place ever after.

    A CUDA graph repeats its steps on the same memory, and a kernel may need a certain layout: a
    state that is made at the first step, or taken over from a file, would fit neither.
    """

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        """The state of a parameter before its first step."""
        raise NotImplementedError

    def remember(self) -> None:
        """Make the state of all parameters that training is to change; of others, when it does."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad:
                    self.state_of(parameter)

    def state_of(self, parameter: Tensor) -> dict[str, Tensor]:
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state |= self.fresh(parameter)
        return state

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Values of a saved state, put where the step reads them."""
        kept = self.state
        super().load_state_dict(state_dict)
        loaded, self.state = self.state, kept
        for group in self.param_groups:
            for parameter in group["params"]:
                saved = loaded.get(parameter, {})
                state = self.state_of(parameter) if saved else kept.get(parameter, {})
                for key, place in state.items():
                    value = saved.get(key)  # none: saved before its first step
                    place.zero_() if value is None else place.copy_(value)
