"""The decoder that both models share: embeddings, pre-norm blocks, an untied output head.

Shapes: B sequences, T tokens, d = n_embd, H heads of size d / H, V = vocabulary.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import AttentionLogits, Stack
from bench.border.options import DecoderOptions


class FeedForward(Protocol):
    """What a block does between its attention and the next block, added onto the stream.

    x and onto: (N, d), N = B T; returns onto + f(x).
    """

    def __call__(self, x: Tensor, onto: Tensor) -> Tensor: ...

    def stacks(self, prefix: str) -> Iterator[Stack]: ...


def empty(*shape: int) -> nn.Parameter:
    """A parameter without values; `initialise` draws them from its logical tensors' streams."""
    return nn.Parameter(torch.empty(*shape))


class Attention(nn.Module):
    """Causal attention. Query, key and value of all heads are one product, without bias.

    The original multiplies scores by n_embd^-0.5 instead of the usual head_size^-0.5
    (Vaswani et al. 2017, section 3.2.1). Its published figures were made so: it is the default,
    `attention_scale: head_size` gives the usual one.
    """

    def __init__(self, options: DecoderOptions) -> None:
        super().__init__()
        d = options.n_embd
        self.n_head = options.n_head
        self.scale = (d if options.attention_scale == "n_embd" else d // options.n_head) ** -0.5
        self.qkv = empty(3 * d, d)
        self.output = empty(d, d)
        self.output_bias = empty(d)
        self.logits = AttentionLogits()

    def forward(self, x: Tensor, onto: Tensor, T: int) -> Tensor:
        """x and onto: (N, d), sequences of T tokens one after another; returns onto + f(x)."""
        N, d = x.shape
        qkv = F.linear(x, self.qkv).view(N // T, T, 3, self.n_head, d // self.n_head)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # each (B, H, T, d / H)
        if self.logits.asked and torch.is_grad_enabled():
            self.logits.largest = self._largest_logits(query, key)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
        mixed = mixed.transpose(1, 2).reshape(N, d)
        return torch.addmm(onto, mixed, self.output.t()).add_(self.output_bias)

    @torch.no_grad()
    def _largest_logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Of each head, (H,). query and key: (B, H, T, d / H)."""
        T = query.shape[2]
        future = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
        scores = (query @ key.mT).mul_(self.scale)  # (B, H, T, T)
        return scores.masked_fill_(future, -torch.inf).amax((0, 2, 3))

    def stacks(self, prefix: str) -> Iterator[Stack]:
        d = self.output_bias.numel()
        projections = tuple(
            f"{prefix}.{kind}.{head}.weight"
            for kind in ("query", "key", "value")
            for head in range(self.n_head)
        )
        yield Stack(
            projections,
            "hidden",
            self.qkv,
            (d // self.n_head, d),
            fan_in=d,
            heads=self.n_head,
            logits=self.logits,
        )
        yield Stack((f"{prefix}.output.weight",), "hidden", self.output, (d, d), fan_in=d)
        yield Stack((f"{prefix}.output.bias",), "vector", self.output_bias, (d,), fan_in=d)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)), on (N, d).

    Each part adds itself onto the stream in its last product, which spares a sum.
    """

    def __init__(self, options: DecoderOptions, feed_forward: FeedForward) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(options.n_embd)
        self.attention = Attention(options)
        self.feed_forward_norm = nn.LayerNorm(options.n_embd)
        self.feed_forward = feed_forward

    def forward(self, x: Tensor, T: int) -> Tensor:
        x = self.attention(self.attention_norm(x), onto=x, T=T)
        return self.feed_forward(self.feed_forward_norm(x), onto=x)

    def stacks(self, prefix: str) -> Iterator[Stack]:
        yield from norm_stacks(f"{prefix}.attention_norm", self.attention_norm)
        yield from self.attention.stacks(f"{prefix}.attention")
        yield from norm_stacks(f"{prefix}.feed_forward_norm", self.feed_forward_norm)
        yield from self.feed_forward.stacks(f"{prefix}.feed_forward")


def norm_stacks(prefix: str, norm: nn.LayerNorm) -> Iterator[Stack]:
    shape = (norm.weight.numel(),)
    yield Stack((f"{prefix}.weight",), "vector", norm.weight, shape, init="ones")
    yield Stack((f"{prefix}.bias",), "vector", norm.bias, shape, init="zeros")


class Decoder(nn.Module):
    """Tokens (B, T) in, logits (B, T, V) out."""

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
        self.token = empty(vocab_size, d)
        self.position = empty(block_size, d)
        self.blocks = nn.ModuleList(Block(options, feed_forward()) for _ in range(options.n_layer))
        self.norm = nn.LayerNorm(d)
        self.head = empty(vocab_size, d)
        self.head_bias = empty(vocab_size)

    def forward(self, tokens: Tensor) -> Tensor:
        B, T = tokens.shape
        x = (F.embedding(tokens, self.token) + self.position[:T]).flatten(0, 1)  # (B T, d)
        for block in self.blocks:
            x = block(x, T)
        return F.linear(self.norm(x), self.head, self.head_bias).view(B, T, -1)

    def stacks(self) -> list[Stack]:
        """All logical tensors of the model; their names are equal between models where shared."""
        vocab_size, d = self.head.shape
        stacks = [
            Stack(("token.weight",), "embedding", self.token, (vocab_size, d), init="normal"),
            Stack(
                ("position.weight",),
                "embedding",
                self.position,
                (self.block_size, d),
                init="normal",
            ),
        ]
        for index, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            stacks += block.stacks(f"blocks.{index}")
        stacks += norm_stacks("norm", self.norm)
        stacks.append(Stack(("head.weight",), "head", self.head, (vocab_size, d), fan_in=d))
        stacks.append(Stack(("head.bias",), "vector", self.head_bias, (vocab_size,), fan_in=d))
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
