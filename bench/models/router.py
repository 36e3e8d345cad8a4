"""Which experts of a block a token visits, and how much each of them counts.

Shapes: N tokens, d = n_embd, E experts, k of them chosen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Cut, Stack, cut
from bench.border.options import NanoKimiOptions
from bench.models.parameters import bias_stacks, empty


class Routing(NamedTuple):
    """What a router says of N tokens; without a choice every expert is visited."""

    scores: Tensor  # (N, E), of which the gate is made
    gate: Tensor  # (N, k) or, without a choice, (N, E): the experts' weights
    chosen: Tensor | None = None  # (N, k), the experts of these weights
    load: Tensor | None = None  # (E,), how many tokens chose each

    def weights(self) -> Tensor:
        """(N, E): the gate, 0 for the experts that were not chosen."""
        if self.chosen is None:
            return self.gate
        return torch.zeros_like(self.scores).scatter(1, self.chosen, self.gate)


class Router(nn.Module):
    """Scores of all experts by one product, and the gate that follows from them.

    softmax: scores of a token sum to 1 (Shazeer et al. 2017, Fedus et al. 2022). sigmoid: each
    expert is scored by itself (DeepSeek-V3, 2024, section 2.1.2). The gate is the scores of the
    chosen experts over their sum, so that it sums to 1 over two experts as over all; of a single
    chosen expert it is the score itself (Switch, equation 2): through it alone the router learns.
    """

    preference: Tensor  # (E,), with balance: bias; added to the scores for the choice alone
    mass: Tensor  # (E,), with pruning; the gate summed over all tokens since the last pruning

    def __init__(self, options: NanoKimiOptions) -> None:
        super().__init__()
        self.options = options
        self.gate = empty(options.n_experts, options.n_embd)
        self.gate_bias = empty(options.n_experts) if options.bias else None
        self.auxiliary_loss: Tensor | None = None  # of the last training forward
        if options.balance == "bias":
            self.register_buffer("preference", torch.zeros(options.n_experts))
        if options.prune_every is not None:
            self.register_buffer("mass", torch.zeros(options.n_experts))

    def forward(self, x: Tensor) -> Routing:
        """x: (N, d)."""
        logits = F.linear(x, self.gate, self.gate_bias)
        scores = logits.softmax(-1) if self.options.router == "softmax" else logits.sigmoid()
        routing = self._chosen(scores) if self.options.gating == "topk" else self._all(scores)
        if self.training and torch.is_grad_enabled():
            self._learn(routing)
        return routing

    def _all(self, scores: Tensor) -> Routing:
        return Routing(scores, scores if self.options.router == "softmax" else _shares(scores))

    def _chosen(self, scores: Tensor) -> Routing:
        """The bias takes part in the choice alone: the gate is made of the scores."""
        k, balance = self.options.top_k, self.options.balance
        wanted = scores.detach() + self.preference if balance == "bias" else scores.detach()
        chosen = wanted.topk(k, dim=-1).indices
        gate = scores.gather(1, chosen)
        load = chosen.flatten().bincount(minlength=scores.shape[1])
        return Routing(scores, gate if k == 1 else _shares(gate), chosen, load)

    def _learn(self, routing: Routing) -> None:
        """What a training step leaves behind for the next ones, as a batch norm its averages."""
        if self.options.balance == "aux":
            self.auxiliary_loss = self.options.aux_coefficient * _imbalance(routing)
        elif self.options.balance == "bias":
            assert routing.load is not None
            load = routing.load.to(self.preference.dtype)
            self.preference += self.options.bias_rate * (load.mean() - load).sign()
        if self.options.prune_every is not None:
            self.mass += routing.weights().detach().sum(0)

    def take_auxiliary_loss(self) -> Tensor:
        """That of the last training forward, once: nothing holds on to its graph."""
        loss, self.auxiliary_loss = self.auxiliary_loss, None
        assert loss is not None, "no forward with gradients came before"
        return loss

    def least_used(self) -> int:
        """The expert with the least gate mass since the last `keep`; the first of equals."""
        return int(self.mass.argmin())

    def keep(self, kept: Tensor) -> list[Cut]:
        """Forget all other experts; kept: (n_kept,) in ascending order."""
        for name, buffer in list(self.named_buffers()):
            setattr(self, name, buffer[kept])
        if self.options.prune_every is not None:
            self.mass.zero_()
        n_experts = len(self.gate)
        present = ["gate"] if self.gate_bias is None else ["gate", "gate_bias"]
        return [cut(self, name, kept, n_experts) for name in present]

    def stacks(self, prefix: str) -> Iterator[Stack]:
        E, d = self.gate.shape
        yield Stack((f"{prefix}.gate.weight",), "router", self.gate, (E, d), fan_in=d)
        yield from bias_stacks([f"{prefix}.gate.bias"], self.gate_bias, E, fan_in=d)


def _shares(scores: Tensor) -> Tensor:
    return scores / scores.sum(-1, keepdim=True)


def _imbalance(routing: Routing) -> Tensor:
    """E sum_e f_e P_e: 1 where all experts are used alike, E where one does everything.

    f_e is the share of the choices that fell on expert e, P_e its mean share of the scores, through
    which the gradient comes (Switch, equations 4 to 6; DeepSeek-V3, equations 17 to 20).
    """
    assert routing.load is not None
    choices = _shares(routing.load.to(routing.scores.dtype))
    shares = _shares(routing.scores).mean(0)
    return len(choices) * (choices * shares).sum()
