"""The matrix products of some work, to be run again without all that is around them."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
# With the sums that come with them: a bias or a stream that a product is added onto.
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)


class _Record(TorchDispatchMode):
    """Notes each product with operands of the same shapes and layouts, filled anew."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func in PRODUCTS:
            self.calls.append((func, tuple(_alike(each) for each in args), kwargs or {}))
        return func(*args, **(kwargs or {}))


def _alike(operand: object) -> object:
    if not isinstance(operand, Tensor):
        return operand
    with torch.no_grad():
        empty = torch.empty_strided(operand.shape, operand.stride(), dtype=operand.dtype)
        return empty.uniform_(-1, 1)


def products_of(work: Callable[[], object]) -> Callable[[], None]:
    """What runs the products of `work`, and nothing else, one after another."""
    with _Record() as record:
        work()

    @torch.inference_mode()
    def products() -> None:
        for func, args, kwargs in record.calls:
            func(*args, **kwargs)

    return products
