"""NanoKimi: the mixture-of-experts model of the original comparison."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.logical import Stack
from bench.models.decoder import Decoder, empty
from bench.options import DecoderOptions, NanoKimiOptions


class Mixture(nn.Module):
    """All E experts, weighted by a softmax gate: sum over e of gate_e(x) * expert_e(x).

    An expert is Linear(d -> 2d), SwiGLU (silu(first half) * second half), Linear(d -> d).
    The first layers of all experts are one product (N, d) x (d, 2Ed). The gate is applied to
    the hidden units, so that the second layers and their weighted sum are one product as well:
    sum_e g_e (h_e W_e + b_e) = [g_1 h_1 .. g_E h_E] [W_1; ..; W_E] + g [b_1; ..; b_E].
    """

    def __init__(self, d: int, n_experts: int) -> None:
        super().__init__()
        self.n_experts = n_experts
        self.gate = empty(n_experts, d)
        self.gate_bias = empty(n_experts)
        self.up = empty(n_experts * 2 * d, d)
        self.up_bias = empty(n_experts * 2 * d)
        self.down = empty(n_experts * d, d)  # each expert's matrix stored (in, out)
        self.down_bias = empty(n_experts, d)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        N, d = x.shape
        gate = F.linear(x, self.gate, self.gate_bias).softmax(-1)  # (N, E)
        up = F.linear(x, self.up, self.up_bias).view(N, self.n_experts, 2, d)
        # Not up[:, :, 0] and up[:, :, 1]: the backward of each fills the whole with zeros first.
        first, second = up.unbind(2)  # (N, E, d) each
        hidden = F.silu(first) * second * gate.unsqueeze(-1)
        onto = torch.addmm(onto, gate, self.down_bias)
        return torch.addmm(onto, hidden.view(N, self.n_experts * d), self.down)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        E, d = self.down_bias.shape

        def each(kind: str) -> tuple[str, ...]:
            return tuple(f"{prefix}.experts.{expert}.{kind}" for expert in range(E))

        yield Stack((f"{prefix}.gate.weight",), "router", self.gate, (E, d), fan_in=d)
        yield Stack((f"{prefix}.gate.bias",), "vector", self.gate_bias, (E,), fan_in=d)
        yield Stack(each("up.weight"), "hidden", self.up, (2 * d, d), fan_in=d)
        yield Stack(each("up.bias"), "vector", self.up_bias, (2 * d,), fan_in=d)
        yield Stack(each("down.weight"), "hidden", self.down, (d, d), fan_in=d, transposed=True)
        yield Stack(each("down.bias"), "vector", self.down_bias, (d,), fan_in=d)


def build(options: DecoderOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoKimi without values yet: `initialise(model.stacks(), ...)` draws them."""
    assert isinstance(options, NanoKimiOptions)
    experts = options.n_experts
    return Decoder(options, vocab_size, block_size, lambda: Mixture(options.n_embd, experts))
