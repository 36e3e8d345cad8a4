"""NanoGPT: the dense model of the original comparison."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions, NanoGPTOptions
from bench.models.decoder import Decoder, empty


class DenseFeedForward(nn.Module):
    """Linear(d -> up), an activation up -> h, Linear(h -> d), with biases."""

    def __init__(self, d: int, up: int, h: int, activate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activate = activate
        self.up = empty(up, d)
        self.up_bias = empty(up)
        self.down = empty(d, h)
        self.down_bias = empty(d)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        hidden = self.activate(F.linear(x, self.up, self.up_bias))  # (N, h)
        return torch.addmm(onto, hidden, self.down.t()).add_(self.down_bias)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        (up, d), h = self.up.shape, self.down.shape[1]
        yield Stack((f"{prefix}.up.weight",), "hidden", self.up, (up, d), fan_in=d)
        yield Stack((f"{prefix}.up.bias",), "vector", self.up_bias, (up,), fan_in=d)
        yield Stack((f"{prefix}.down.weight",), "hidden", self.down, (d, h), fan_in=h)
        yield Stack((f"{prefix}.down.bias",), "vector", self.down_bias, (d,), fan_in=h)


def swiglu(x: Tensor) -> Tensor:
    """(N, 2 h) -> (N, h): silu(first half) * second half (Shazeer 2020).

    Both halves are of one logical matrix, as in an expert of NanoKimi: what differs between the two
    is the mixture.
    """
    first, second = x.view(len(x), 2, -1).unbind(1)
    return F.silu(first) * second


def build(options: DecoderOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoGPT without values yet: `initialise(model.stacks(), ...)` draws them."""
    assert isinstance(options, NanoGPTOptions)
    d, h = options.n_embd, options.n_hidden
    up, activate = {
        "relu": (h, torch.relu_),
        "gelu": (h, F.gelu),  # the exact one, x Phi(x) (Hendrycks and Gimpel 2016)
        "swiglu": (2 * h, swiglu),
    }[options.activation]
    return Decoder(options, vocab_size, block_size, lambda: DenseFeedForward(d, up, h, activate))
