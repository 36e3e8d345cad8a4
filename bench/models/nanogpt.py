"""NanoGPT: the dense model of the original comparison."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.logical import Stack
from bench.models.decoder import Decoder, empty
from bench.options import NanoGPTOptions


class DenseFeedForward(nn.Module):
    """Linear(d -> 4d), ReLU, Linear(4d -> d), with biases."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.up = empty(4 * d, d)
        self.up_bias = empty(4 * d)
        self.down = empty(d, 4 * d)
        self.down_bias = empty(d)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        hidden = F.linear(x, self.up, self.up_bias).relu_()  # (N, 4d)
        return torch.addmm(onto, hidden, self.down.t()).add_(self.down_bias)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        wide, d = self.up.shape
        yield Stack((f"{prefix}.up.weight",), "hidden", self.up, (wide, d), fan_in=d)
        yield Stack((f"{prefix}.up.bias",), "vector", self.up_bias, (wide,), fan_in=d)
        yield Stack((f"{prefix}.down.weight",), "hidden", self.down, (d, wide), fan_in=wide)
        yield Stack((f"{prefix}.down.bias",), "vector", self.down_bias, (d,), fan_in=wide)


def build(options: NanoGPTOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoGPT without values yet: `initialise(model.stacks(), ...)` draws them."""
    return Decoder(options, vocab_size, block_size, lambda: DenseFeedForward(options.n_embd))
