"""How a model's experts are used: watched from outside, while it is evaluated."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from bench.models.router import Router, Routing


class Usage:
    """Sums over all tokens since it began to watch; of each block's router apart."""

    def __init__(self) -> None:
        self.loads: dict[nn.Module, Tensor] = {}  # (E,) each
        self.entropies: list[Tensor] = []  # means over the tokens of a batch
        self.tokens: list[int] = []

    def add(self, router: nn.Module, inputs: tuple[Tensor, ...], routing: Routing) -> None:
        """A forward hook of a router."""
        load = routing.gate.sum(0) if routing.load is None else routing.load
        before = self.loads.get(router)
        self.loads[router] = load.double() if before is None else before + load
        shares = routing.scores / routing.scores.sum(-1, keepdim=True)
        self.entropies.append(torch.special.entr(shares).sum(-1).mean())
        self.tokens.append(len(shares))

    @property
    def load_max(self) -> float | None:
        """Load of the busiest expert of any block over that of an equal share; None: no experts.

        The load is the tokens that chose an expert; where all are visited, their weights for it.
        """
        if not self.loads:
            return None
        return max((load.max() / load.mean()).item() for load in self.loads.values())

    @property
    def entropy(self) -> float | None:
        """Of a token's scores as shares, in nats, the mean over tokens and blocks."""
        if not self.entropies:
            return None
        entropies, tokens = torch.stack(self.entropies), torch.tensor(self.tokens)
        return (entropies.cpu().double() * tokens).sum().item() / sum(self.tokens)


@contextmanager
def watched(model: nn.Module) -> Iterator[Usage]:
    """Watch the routers for as long as the block lasts; without any, nothing happens."""
    usage = Usage()
    routers = [module for module in model.modules() if isinstance(module, Router)]
    hooks = [router.register_forward_hook(usage.add) for router in routers]
    try:
        yield usage
    finally:
        for hook in hooks:
            hook.remove()
