"""NanoGPT: the dense model of the original comparison."""

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions, NanoGPTOptions
from bench.models.decoder import Decoder, FeedForward, empty


class DenseFeedForward(nn.Module):
    """Linear(d -> h), ReLU or GELU, Linear(h -> d), with biases.

    GELU is the exact one, x Phi(x) (Hendrycks and Gimpel 2016).
    """

    def __init__(self, d: int, h: int, activate: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.activate = activate
        self.up = empty(h, d)
        self.up_bias = empty(h)
        self.down = empty(d, h)
        self.down_bias = empty(d)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        hidden = self.activate(F.linear(x, self.up, self.up_bias))  # (N, h)
        return torch.addmm(onto, hidden, self.down.t()).add_(self.down_bias)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        h, d = self.up.shape
        yield Stack((f"{prefix}.up.weight",), "hidden", self.up, (h, d), fan_in=d)
        yield Stack((f"{prefix}.up.bias",), "vector", self.up_bias, (h,), fan_in=d)
        yield Stack((f"{prefix}.down.weight",), "hidden", self.down, (d, h), fan_in=h)
        yield Stack((f"{prefix}.down.bias",), "vector", self.down_bias, (d,), fan_in=h)


class GatedFeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): Linear(d -> 2h), silu(first half) * second half, Linear(h -> d).

    With biases, and with both halves one logical matrix, as in an expert of NanoKimi: what differs
    between the two is the mixture.
    """

    def __init__(self, d: int, h: int) -> None:
        super().__init__()
        self.up = empty(2 * h, d)
        self.up_bias = empty(2 * h)
        self.down = empty(d, h)
        self.down_bias = empty(d)

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        first, second = F.linear(x, self.up, self.up_bias).view(len(x), 2, -1).unbind(1)  # (N, h)
        hidden = F.silu(first) * second
        return torch.addmm(onto, hidden, self.down.t()).add_(self.down_bias)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        d, h = self.down.shape
        yield Stack((f"{prefix}.up.weight",), "hidden", self.up, (2 * h, d), fan_in=d)
        yield Stack((f"{prefix}.up.bias",), "vector", self.up_bias, (2 * h,), fan_in=d)
        yield Stack((f"{prefix}.down.weight",), "hidden", self.down, (d, h), fan_in=h)
        yield Stack((f"{prefix}.down.bias",), "vector", self.down_bias, (d,), fan_in=h)


def build(options: DecoderOptions, vocab_size: int, block_size: int) -> Decoder:
    """A NanoGPT without values yet: `initialise(model.stacks(), ...)` draws them."""
    assert isinstance(options, NanoGPTOptions)
    d, h = options.n_embd, options.n_hidden
    feed_forward: dict[str, Callable[[], FeedForward]] = {
        "relu": lambda: DenseFeedForward(d, h, torch.relu_),
        "gelu": lambda: DenseFeedForward(d, h, F.gelu),
        "swiglu": lambda: GatedFeedForward(d, h),
    }
    return Decoder(options, vocab_size, block_size, feed_forward[options.activation])
