"""How a model's experts are used: watched from outside, while it is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.router import Router, Routing


@dataclass
class Sums:
    """Of one router, over all tokens since it began to be watched, on its device."""

    load: Tensor  # (E,)
    entropy: Tensor
    tokens: Tensor


class Usage:
    """How the routers of a model are used for as long as they are watched.

    Sums are written in place, so that a CUDA graph of an evaluation adds to them as well.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.of: dict[nn.Module, Sums] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count anew what comes in this block."""
        routers = [module for module in self.model.modules() if isinstance(module, Router)]
        for router in routers:
            self._start(router)
        hooks = [router.register_forward_hook(self._add) for router in routers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _start(self, router: Router) -> None:
        sums, n_experts = self.of.get(router), len(router.gate)
        if sums is None or len(sums.load) != n_experts:  # some were dropped
            zero = router.gate.new_zeros((), dtype=torch.float64)
            self.of[router] = Sums(zero.repeat(n_experts), zero.clone(), zero.clone())
        else:
            for each in (sums.load, sums.entropy, sums.tokens):
                each.zero_()

    def _add(self, router: nn.Module, inputs: tuple[Tensor, ...], routing: Routing) -> None:
        """A forward hook of a router."""
        sums, tokens = self.of[router], len(routing.scores)
        sums.load += routing.gate.sum(0) if routing.load is None else routing.load
        shares = routing.scores / routing.scores.sum(-1, keepdim=True)
        sums.entropy += torch.special.entr(shares).sum(-1).mean().double() * tokens
        sums.tokens += tokens

    @property
    def load_max(self) -> float | None:
        """Load of the busiest expert of any block over that of an equal share; None: no experts.

        The load is the tokens that chose an expert; where all are visited, their weights for it.
        """
        loads = [sums.load for sums in self.of.values()]
        return max(((load.max() / load.mean()).item() for load in loads), default=None)

    @property
    def entropy(self) -> float | None:
        """Of a token's scores as shares, in nats, the mean over tokens and blocks."""
        if not self.of:
            return None
        entropy = sum(sums.entropy.item() for sums in self.of.values())
        return entropy / sum(sums.tokens.item() for sums in self.of.values())
