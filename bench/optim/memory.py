"""How parameters and their gradients lie in memory, and what an optimizer can do with that.

PyTorch's fused kernels walk over memory number by number, whatever a tensor's strides say: of a
parameter that is some columns of a matrix they update what lies beside them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from bench.border.logical import Stack

# In half precision a fused kernel computes in float32, where PyTorch's loop rounds each operation.
FUSED_FORMATS = (torch.float32, torch.float64)


def by_memory(stacks: Sequence[Stack]) -> tuple[list[Stack], list[Stack]]:
    """Those whose parameters a fused kernel updates as PyTorch's loop does, and all others."""
    shared = _sharing(stacks)
    fused: list[Stack] = []
    others: list[Stack] = []
    for stack in stacks:
        fits = _is_plain(stack.parameter) and stack.parameter not in shared
        (fused if fits else others).append(stack)
    return fused, others


def _is_plain(parameter: Tensor) -> bool:
    """Whether its numbers are real and lie one after another, with nothing between."""
    return (
        type(parameter) is nn.Parameter
        and parameter.is_contiguous()
        and parameter.dtype in FUSED_FORMATS
        and not parameter.is_neg()  # the sign is kept apart from the numbers
    )


def _sharing(stacks: Sequence[Stack]) -> set[Tensor]:
    """Parameters that reach into each other's memory: a kernel may update both at once."""
    spans = sorted(
        (*_span(stack.parameter), index)
        for index, stack in enumerate(stacks)
        if stack.parameter.layout is torch.strided and stack.parameter.numel()
    )
    found: set[Tensor] = set()
    reached, last = 0, 0
    for begin, end, index in spans:
        if begin < reached:
            found |= {stacks[last].parameter, stacks[index].parameter}
        if end > reached:
            reached, last = end, index
    return found


def _span(tensor: Tensor) -> tuple[int, int]:
    """The addresses of its first byte and of the one after its last."""
    begin = tensor.data_ptr()
    return begin, begin + _extent(tensor) * tensor.element_size()


def _extent(tensor: Tensor) -> int:
    """Numbers from its first to its last in memory, those between that are not its own included."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


def repeats_memory(tensor: Tensor) -> bool:
    """Whether several of its numbers are one in memory: an expanded tensor, overlapping windows."""
    if tensor.layout is not torch.strided or not tensor.numel() or tensor.is_contiguous():
        return False
    if any(not stride and n > 1 for n, stride in zip(tensor.shape, tensor.stride(), strict=True)):
        return True
    marks = torch.zeros(_extent(tensor), dtype=torch.bool)
    marks.as_strided(tensor.shape, tensor.stride()).fill_(True)
    return int(marks.sum()) < tensor.numel()


def refuse_repeats(stacks: Sequence[Stack]) -> None:
    """Call with those of which `repeats_memory` is true, before each step.

    Raises:
        ValueError: for the first one that has a gradient; without one it is not to be updated.
    """
    for stack in stacks:
        if stack.parameter.grad is not None:
            raise ValueError(
                f"{stack.names[0]}: several of its numbers are one in memory (it is an expanded or "
                "overlapping tensor), so that no optimizer can update it. Make it a tensor of its "
                "own: nn.Parameter(tensor.clone())"
            )


def refuse_sparse(stack: Stack, optimizer: str) -> None:
    """Say that this optimizer has no use for a sparse gradient.

    Raises:
        ValueError: if the parameter's gradient is one.
    """
    gradient = stack.parameter.grad
    if gradient is not None and gradient.layout is not torch.strided:
        raise ValueError(
            f"{stack.names[0]} has a sparse gradient, which {optimizer} cannot use. Build its "
            "layer with sparse=False, or take sgd"
        )


def refuse_complex(stacks: Sequence[Stack], optimizer: str) -> None:
    """Say that this optimizer orthogonalises real matrices alone.

    Raises:
        ValueError: for the first parameter of complex numbers.
    """
    for stack in stacks:
        if stack.parameter.is_complex():
            raise ValueError(
                f"{stack.names[0]} is of complex numbers, which {optimizer} cannot orthogonalise. "
                "Give it another role than hidden in stacks(), or take adamw or sgd"
            )
