"""What becomes of a feed-forward's first layer, by the name of the `activation`."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor


def relu2(x: Tensor) -> Tensor:
    """max(0, x)^2 (So et al. 2021, "Primer")."""
    return F.relu(x).square()


def swiglu(x: Tensor) -> Tensor:
    """(..., 2, h) -> (..., h): silu(first) * second (Shazeer 2020).

    Not x[..., 0, :] and x[..., 1, :]: the backward of each fills the whole with zeros first.
    """
    first, second = x.unbind(-2)
    return F.silu(first) * second


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,  # the exact one, x Phi(x) (Hendrycks and Gimpel 2016)
    "relu2": relu2,
    "swiglu": swiglu,  # of two halves; the others take a number each
}
