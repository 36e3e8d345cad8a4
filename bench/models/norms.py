"""What scales a token's vector: the norms of a block, and that of queries and keys."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.border.logical import Stack
from bench.border.options import DecoderOptions

# Added to the mean square before its root is taken: nn.LayerNorm's own, so that norms differ in
# their formula alone, and that of Llama 2's RMSNorm (Touvron et al. 2023). Zhang and Sennrich's
# formula has none, and would divide a vector of zeros by 0.
EPSILON = 1e-5


class RMSNorm(nn.Module):
    """gain * x / rms(x): no mean is taken away, nothing is added (Zhang and Sennrich 2019, eq. 4).

    (N, d) -> (N, d), in the gain's number format, as autocast has it on a GPU.
    """

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        gain = self.weight
        return F.rms_norm(x.to(gain.dtype), gain.shape, gain, EPSILON)


def rms_normalised(x: Tensor) -> Tensor:
    """x / rms(x) over the last dimension, without a gain."""
    return F.rms_norm(x, x.shape[-1:], eps=EPSILON)


def norm_of(options: DecoderOptions) -> nn.LayerNorm | RMSNorm:
    """The norm before a part of a block, and before the head."""
    d = options.n_embd
    if options.norm == "rmsnorm":
        return RMSNorm(d)
    return nn.LayerNorm(d, eps=EPSILON, bias=options.bias)


def norm_stacks(prefix: str, norm: nn.LayerNorm | RMSNorm) -> Iterator[Stack]:
    shape = (norm.weight.numel(),)
    yield Stack((f"{prefix}.weight",), "vector", norm.weight, shape, init="ones")
    if isinstance(norm, nn.LayerNorm) and norm.bias is not None:
        yield Stack((f"{prefix}.bias",), "vector", norm.bias, shape, init="zeros")
