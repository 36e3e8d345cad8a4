"""The matrix products of some work, at the rate that this machine does them with hot operands."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
# With the sums that come with them: a bias or a stream that a product is added onto.
PRODUCTS = (aten.mm.default, aten.addmm.default, aten.bmm.default, aten.baddbmm.default)


class _Record(TorchDispatchMode):
    """Counts the products by operation, shapes and layouts, and keeps operands for each kind."""

    def __init__(self) -> None:
        super().__init__()
        self.counts = Counter[str]()
        self.calls: dict[str, Callable[[], Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func in PRODUCTS:
            key = f"{func} {[_layout(each) for each in args]} {kwargs}"
            self.counts[key] += 1
            if key not in self.calls:
                operands = [_alike(each) for each in args]
                self.calls[key] = lambda: func(*operands, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _layout(operand: object) -> object:
    return (operand.shape, operand.stride()) if isinstance(operand, Tensor) else operand


def _alike(operand: object) -> object:
    if not isinstance(operand, Tensor):
        return operand
    with torch.no_grad():
        empty = torch.empty_strided(operand.shape, operand.stride(), dtype=operand.dtype)
        return empty.uniform_(-1, 1)


def products_of(work: Callable[[], object]) -> Callable[[], None]:
    """What runs the products of `work` and nothing else, those of a kind one after another.

    Their operands are then in the caches, so that this is the machine's own rate at these shapes.
    """
    with _Record() as record:
        work()

    @torch.inference_mode()
    def products() -> None:
        for key, call in record.calls.items():
            for _ in range(record.counts[key]):
                call()

    return products


def gflop_of(products: Callable[[], None]) -> float:
    with FlopCounterMode(display=False) as counter:
        products()
    return counter.get_total_flops() / 1e9
