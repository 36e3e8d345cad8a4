"""Rotary position embedding: a token's place, told by the angles of its queries and keys."""

import torch
from torch import Tensor, nn


class Rotary(nn.Module):
    """Rotates pairs of a head's numbers at position t by t * base^(-2i / h), i = 0 .. h / 2 - 1.

    Su et al. 2021 (RoFormer), section 3.2.2: the product of a query and a key then depends on how
    far apart they are, not on where. The halves are rotated: number i of the first half with number
    i of the second (GPT-NeoX, Black et al. 2022; Llama's weights as Hugging Face has them), where
    Su et al. pair neighbours, 2i and 2i + 1. The two are one model with its numbers in another
    order, the same in queries and keys.

    Angles are computed in float64, once, and their cosines and sines kept in float32: at position
    1,000 an angle in float32 is right to four digits only.
    """

    cos: Tensor  # (block_size, h / 2)
    sin: Tensor

    def __init__(self, head_size: int, block_size: int, base: float) -> None:
        super().__init__()
        pairs = torch.arange(0, head_size, 2, dtype=torch.float64) / head_size  # 2i / h
        places = torch.arange(block_size, dtype=torch.float64)
        angles = torch.outer(places, base**-pairs)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """x: (..., T, h), the first T positions -> the same shape."""
        T = x.shape[-2]
        cos, sin = self.cos[:T], self.sin[:T]
        first, second = x.chunk(2, -1)
        return torch.cat((first * cos - second * sin, second * cos + first * sin), -1)
