"""The decoder that both models share: embeddings, pre-norm blocks, an output head.

Shapes: B sequences, T tokens, d = n_embd, V = vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions
from bench.models.attention import Attention
from bench.models.norms import norm_of, norm_stacks
from bench.models.parameters import bias_stacks, empty
from bench.models.rotary import Rotary


class FeedForward(Protocol):
    """What a block does between its attention and the next block, added onto the stream.

    x and onto: (N, d), N = B T; returns onto + f(x).
    """

    def __call__(self, x: Tensor, onto: Tensor) -> Tensor: ...

    def stacks(self, prefix: str) -> Iterator[Stack]: ...


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), on (N, d).

    Each part adds itself onto the stream in its last product, which spares a sum.
    """

    def __init__(
        self, options: DecoderOptions, feed_forward: FeedForward, rotary: Rotary | None
    ) -> None:
        super().__init__()
        self.attention_norm = norm_of(options)
        self.attention = Attention(options, rotary)
        self.feed_forward_norm = norm_of(options)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = self.attention(self.attention_norm(x), onto=x, T=T)
        return self.feed_forward(self.feed_forward_norm(x), onto=x)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        yield from norm_stacks(f"{prefix}.attention_norm", self.attention_norm)
        yield from self.attention.stacks(f"{prefix}.attention")
        yield from norm_stacks(f"{prefix}.feed_forward_norm", self.feed_forward_norm)
        yield from self.feed_forward.stacks(f"{prefix}.feed_forward")


class Decoder(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out.

    With `tied_head` one parameter is head and token embedding (Press and Wolf 2017): the head as it
    is untied, whose rows are multiplied by d^0.5 where they are looked up (Vaswani et al. 2017,
    section 3.4), since as an embedding they would be lost beside the positions.
    """

    def __init__(
        self,
        options: DecoderOptions,
        vocab_size: int,
        block_size: int,
        feed_forward: Callable[[], FeedForward],
    ) -> None:
        super().__init__()
        d = options.n_embd
        self.block_size = block_size
        self.tied = options.tied_head
        self.token = empty(vocab_size, d)
        self.position = empty(block_size, d) if options.position == "learned" else None
        rotary = None  # one for all blocks
        if options.position == "rope":
            rotary = Rotary(d // options.n_head, block_size, options.rope_base)
        self.blocks = nn.ModuleList(
            Block(options, feed_forward(), rotary) for _ in range(options.n_layer)
        )
        self.norm = norm_of(options)
        self.head = self.token if self.tied else empty(vocab_size, d)
        self.head_bias = empty(vocab_size) if options.bias else None

    def forward(self, tokens: Tensor) -> Tensor:
        B, T = tokens.shape
        x = self._embedded(tokens).flatten(0, 1)  # (B T, d)
        for block in self.blocks:
            x = block(x, T)
        return F.linear(self.norm(x), self.head, self.head_bias).view(B, T, -1)

    def _embedded(self, tokens: Tensor) -> Tensor:
        """(B, T) -> (B, T, d)."""
        x = F.embedding(tokens, self.token)
        if self.tied:
            x = x * x.shape[-1] ** 0.5
        return x if self.position is None else x + self.position[: tokens.shape[1]]

    def stacks(self) -> list[Stack]:
        """All logical tensors of the model; their names are equal between models where shared."""
        vocab_size, d = self.head.shape
        stacks = []
        if not self.tied:
            shape = (vocab_size, d)
            stacks.append(Stack(("token.weight",), "embedding", self.token, shape, init="normal"))
        if self.position is not None:
            shape = (self.block_size, d)
            stacks.append(
                Stack(("position.weight",), "embedding", self.position, shape, init="normal")
            )
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            stacks += block.stacks(f"blocks.{index}")
        stacks += norm_stacks("norm", self.norm)
        stacks.append(Stack(("head.weight",), "head", self.head, (vocab_size, d), fan_in=d))
        stacks += bias_stacks(["head.bias"], self.head_bias, vocab_size, fan_in=d)
        return stacks

    def n_params(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def n_params_active(self) -> int:
        """Parameters that one token uses; of experts that it chooses among, the chosen ones."""
        return sum(stack.n_active() for stack in self.stacks())

    def flops_per_token(self) -> int:
        """Floating-point operations of one training token, forward and backward.

        6 for each active parameter of a matrix product (2 forward, 4 backward; Kaplan et al.
        2020, section 2.1) and 12 x layers x block x width for the scores and the mixing of full
        attention (Chowdhery et al. 2022, appendix B). Embedding look-ups are no products.
        """
        products = sum(
            stack.n_active()
            for stack in self.stacks()
            if stack.role in ("hidden", "router", "head")
        )
        d = self.head.shape[1]
        return 6 * products + 12 * len(self.blocks) * self.block_size * d
