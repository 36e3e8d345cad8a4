"""NanoGPT: the dense model of the original comparison."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions, NanoGPTOptions
from bench.models.activations import ACTIVATIONS
from bench.models.decoder import Decoder
from bench.models.parameters import bias_stacks, empty


class DenseFeedForward(nn.Module):
    """Linear(d -> h, or 2h where gated), an activation to h, Linear(h -> d).

    Both halves of a gated one are of one logical matrix, as in an expert of NanoKimi: what differs
    between the two is the mixture.
    """

    def __init__(self, options: NanoGPTOptions) -> None:
        super().__init__()
        d, h = options.n_embd, options.n_hidden
        self.is_gated = options.is_gated
        self.activate = ACTIVATIONS[options.activation]
        if options.activation == "relu":
            self.activate = torch.relu_  # in place: nothing else wants what it overwrites
        up = 2 * h if self.is_gated else h
        self.up = empty(up, d)
        self.up_bias = empty(up) if options.bias else None
        self.down = empty(d, h)
        self.down_bias = empty(d) if options.bias else None

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        up = F.linear(x, self.up, self.up_bias)
        hidden = self.activate(up.view(len(x), 2, -1) if self.is_gated else up)  # (N, h)
        out = torch.addmm(onto, hidden, self.down.t())
        return out if self.down_bias is None else out.add_(self.down_bias)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        (up, d), h = self.up.shape, self.down.shape[1]
        yield Stack((f"{prefix}.up.weight",), "hidden", self.up, (up, d), fan_in=d)
        yield from bias_stacks([f"{prefix}.up.bias"], self.up_bias, up, fan_in=d)
        yield Stack((f"{prefix}.down.weight",), "hidden", self.down, (d, h), fan_in=h)
        yield from bias_stacks([f"{prefix}.down.bias"], self.down_bias, d, fan_in=h)


def build(options: DecoderOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoGPT without values yet: `initialise(model.stacks(), ...)` draws them."""
    assert isinstance(options, NanoGPTOptions)
    return Decoder(options, vocab_size, block_size, lambda: DenseFeedForward(options))
