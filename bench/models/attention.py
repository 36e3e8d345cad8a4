"""Causal attention of all heads at once.

Shapes: B sequences, T tokens, N = B T, d = n_embd, H heads of size h = d / H.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import AttentionLogits, Stack
from bench.border.options import DecoderOptions
from bench.models.norms import rms_normalised
from bench.models.parameters import bias_stacks, empty
from bench.models.rotary import Rotary


class Attention(nn.Module):
    """Causal attention. Query, key and value of all heads are one product, without bias.

    The original multiplies scores by n_embd^-0.5 instead of the usual head_size^-0.5
    (Vaswani et al. 2017, section 3.2.1). Its published figures were made so: it is the default,
    `attention_scale: head_size` gives the usual one.

    rotary: turns queries and keys by their positions, where a table does not tell them.
    """

    def __init__(self, options: DecoderOptions, rotary: Rotary | None = None) -> None:
        super().__init__()
        d = options.n_embd
        self.n_head = options.n_head
        self.scale = (d if options.attention_scale == "n_embd" else d // options.n_head) ** -0.5
        self.qk_norm = options.qk_norm
        self.rotary = rotary
        self.qkv = empty(3 * d, d)
        self.output = empty(d, d)
        self.output_bias = empty(d) if options.bias else None
        self.logits = AttentionLogits()

    def forward(self, x: Tensor, onto: Tensor, T: int) -> Tensor:
        """x and onto: (N, d), sequences of T tokens one after another; returns onto + f(x)."""
        N, d = x.shape
        qkv = F.linear(x, self.qkv).view(N // T, T, 3, self.n_head, d // self.n_head)
        qkv = qkv.permute(2, 0, 3, 1, 4)  # (3, B, H, T, h)
        if self.qk_norm or self.rotary is not None:
            (query, key), value = self._prepared(qkv[:2]), qkv[2]
        else:
            query, key, value = qkv
        if self.logits.asked and torch.is_grad_enabled():
            self.logits.largest = self._largest_logits(query, key)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=self.scale)
        mixed = mixed.transpose(1, 2).reshape(N, d)
        out = torch.addmm(onto, mixed, self.output.t())
        return out if self.output_bias is None else out.add_(self.output_bias)

    def _prepared(self, both: Tensor) -> Tensor:
        """Queries and keys, (2, B, H, T, h), normalised and rotated as asked.

        In either order: a rotation leaves the root mean square as it is (Henry et al. 2020 and
        Dehghani et al. 2023 of the norm, here without a gain).
        """
        prepared = rms_normalised(both) if self.qk_norm else both
        if self.rotary is not None:
            prepared = self.rotary(prepared)
        return prepared.to(both.dtype)  # under autocast both are computed in float32

    @torch.no_grad()
    def _largest_logits(self, query: Tensor, key: Tensor) -> Tensor:
        """Of each head, (H,). query and key: (B, H, T, h)."""
        T = query.shape[2]
        future = torch.ones(T, T, dtype=torch.bool, device=query.device).triu(1)
        scores = (query @ key.mT).mul_(self.scale)  # (B, H, T, T)
        return scores.masked_fill_(future, -torch.inf).amax((0, 2, 3))

    def stacks(self, prefix: str) -> Iterator[Stack]:
        d = len(self.output)
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
            # Normalised, their size has no part in the logits: there is nothing to clip.
            logits=None if self.qk_norm else self.logits,
        )
        yield Stack((f"{prefix}.output.weight",), "hidden", self.output, (d, d), fan_in=d)
        yield from bias_stacks([f"{prefix}.output.bias"], self.output_bias, d, fan_in=d)
