"""NanoKimi: the mixture-of-experts model of the original comparison, and what it may grow into."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Cut, Stack, cut
from bench.border.options import DecoderOptions, NanoKimiOptions
from bench.models.activations import ACTIVATIONS
from bench.models.decoder import Decoder
from bench.models.parameters import bias_stacks, empty
from bench.models.router import Router, Routing
from bench.models.segments import Order, products, to_experts, to_tokens


class Experts(nn.Module):
    """E feed-forwards: Linear(d -> h, or 2h where gated), an activation to h, Linear(h -> d)."""

    def __init__(self, options: NanoKimiOptions, n_experts: int) -> None:
        super().__init__()
        d, h = options.n_embd, options.n_hidden
        self.h = h
        self.units = (2, h) if options.is_gated else (h,)  # of an expert's first layer
        self.activate = ACTIVATIONS[options.activation]
        self.numbers = tuple(range(n_experts))  # an expert keeps its number when others go
        up = n_experts * math.prod(self.units)
        self.up = empty(up, d)
        self.up_bias = empty(up) if options.bias else None
        self.down = empty(n_experts * h, d)  # each expert's matrix stored (in, out)
        self.down_bias = empty(n_experts, d) if options.bias else None

    def all(self, x: Tensor, onto: Tensor, gate: Tensor | None = None) -> Tensor:
        """onto + sum over e of gate_e * expert_e(x); gate: (N, E), 1 where not given.

        The first layers of all experts are one product with a matrix of all their rows. The gate is
        applied to the hidden units, so that the second layers and their weighted sum are one
        product as well:
        sum_e g_e (h_e W_e + b_e) = [g_1 h_1 .. g_E h_E] [W_1; ..; W_E] + g [b_1; ..; b_E].
        """
        N, E, h = len(x), len(self.numbers), self.h
        up = F.linear(x, self.up, self.up_bias).view(N, E, *self.units)
        hidden = self.activate(up)  # (N, E, h)
        if gate is not None:
            hidden = hidden * gate.unsqueeze(-1)
        if self.down_bias is not None:
            onto = (
                onto + self.down_bias.sum(0)
                if gate is None
                else torch.addmm(onto, gate, self.down_bias)
            )
        return torch.addmm(onto, hidden.view(N, E * h), self.down)

    def chosen(self, x: Tensor, onto: Tensor, routing: Routing) -> Tensor:
        """onto + sum over the chosen experts e of gate_e * expert_e(x), no other being computed."""
        assert routing.chosen is not None
        assert routing.load is not None
        E, h, d = len(self.numbers), self.h, x.shape[1]
        order = Order(routing.chosen, routing.load)
        rows = to_experts(x, order)  # (N k, d)
        vectors = None if self.up_bias is None else self.up_bias.view(E, -1)
        up = products(rows, self.up.view(E, -1, d).mT, vectors, order)
        hidden = self.activate(up.view(-1, *self.units))  # (N k, h)
        out = products(hidden, self.down.view(E, h, d), self.down_bias, order)
        by_token = to_tokens(out, order)  # (N, k, d)
        return onto + (by_token * routing.gate.unsqueeze(-1)).sum(1)

    def keep(self, kept: Tensor) -> list[Cut]:
        """Forget all other experts; kept: (n_kept,), places in `numbers`, in ascending order."""
        n_experts = len(self.numbers)
        self.numbers = tuple(self.numbers[place] for place in kept.tolist())
        names = ("up", "up_bias", "down", "down_bias")
        present = [name for name in names if getattr(self, name) is not None]
        return [cut(self, name, kept, n_experts) for name in present]

    def stacks(self, prefix: str, active: int) -> Iterator[Stack]:
        """active: how many of the experts a token visits."""
        d, h, up = self.down.shape[1], self.h, math.prod(self.units)

        def each(kind: str) -> tuple[str, ...]:
            return tuple(f"{prefix}.{number}.{kind}" for number in self.numbers)

        yield Stack(each("up.weight"), "hidden", self.up, (up, d), fan_in=d, active=active)
        yield from bias_stacks(each("up.bias"), self.up_bias, up, fan_in=d, active=active)
        yield Stack(
            each("down.weight"),
            "hidden",
            self.down,
            (d, h),
            fan_in=h,
            transposed=True,
            active=active,
        )
        yield from bias_stacks(each("down.bias"), self.down_bias, d, fan_in=h, active=active)


class Mixture(nn.Module):
    """Experts that a router weights: all of them, or the few that each token chose.

    Shared experts (DeepSeekMoE, Dai et al. 2024) are visited by every token, with a weight of 1.
    """

    def __init__(self, options: NanoKimiOptions) -> None:
        super().__init__()
        self.options = options
        self.router = Router(options)
        n_shared = options.n_shared_experts
        self.experts = Experts(options, options.n_experts)
        self.shared = Experts(options, n_shared) if n_shared else None

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        routing = self.router(x)
        if self.shared is not None:
            onto = self.shared.all(x, onto)
        if routing.chosen is None:
            return self.experts.all(x, onto, routing.gate)
        return self.experts.chosen(x, onto, routing)

    def drop_least_used(self) -> list[Cut]:
        """Go on without the expert of the least gate mass."""
        least_used = self.router.least_used()
        return self.keep(
            [place for place in range(len(self.experts.numbers)) if place != least_used]
        )

    def keep(self, places: Sequence[int]) -> list[Cut]:
        """Go on with the experts at these places in `experts.numbers`, in ascending order."""
        kept = torch.tensor(places, device=self.experts.up.device)
        return [*self.router.keep(kept), *self.experts.keep(kept)]

    def stacks(self, prefix: str) -> Iterator[Stack]:
        n_experts = len(self.experts.numbers)
        active = self.options.top_k if self.options.gating == "topk" else n_experts
        yield from self.router.stacks(prefix)
        yield from self.experts.stacks(f"{prefix}.experts", active)
        if self.shared is not None:
            yield from self.shared.stacks(f"{prefix}.shared", self.options.n_shared_experts)


class NanoKimi(Decoder):
    """A decoder of mixtures."""

    def __init__(self, options: NanoKimiOptions, vocab_size: int, block_size: int) -> None:
        super().__init__(options, vocab_size, block_size, lambda: Mixture(options))
        self.options = options

    @property
    def mixtures(self) -> list[Mixture]:
        """One a block."""
        found = [module for module in self.modules() if isinstance(module, Mixture)]
        assert len(found) == len(self.blocks)
        return found

    def auxiliary_loss(self) -> Tensor | None:
        """What training adds to the loss for balance: of all blocks, of the last forward, once."""
        if self.options.balance != "aux":
            return None
        terms = [mixture.router.take_auxiliary_loss() for mixture in self.mixtures]
        return torch.stack(terms).sum()

    @property
    def prune_every(self) -> int | None:
        """Training steps between two calls of `prune`; None: never."""
        return self.options.prune_every

    def prune(self) -> list[Cut]:
        """Every block goes on without its least used expert, unless only `prune_to` are left."""
        assert self.options.prune_to is not None
        if len(self.mixtures[0].experts.numbers) <= self.options.prune_to:
            return []
        return [each for mixture in self.mixtures for each in mixture.drop_least_used()]


def build(options: DecoderOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoKimi without values yet: `initialise(model.stacks(), ...)` draws them."""
    assert isinstance(options, NanoKimiOptions)
    return NanoKimi(options, vocab_size, block_size)
