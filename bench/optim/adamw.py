"""AdamW (Loshchilov and Hutter 2019), PyTorch's own, on every parameter."""

import inspect
from collections.abc import Sequence

import torch

from bench.logical import Stack
from bench.options import AdamWOptions

# Elementwise operations a number and step, by PyTorch's formula: decay 1, first moment 3,
# second moment 4, denominator 3, update 3.
FLOPS_PER_NUMBER = 14


class AdamW(torch.optim.AdamW):
    """PyTorch's own, without what its `step` does for its compiler.

    Around the step, torch imports torch._dynamo (a second, at the first one) and calls it twice,
    which tells a compiler to leave the step alone, and does nothing where none is at work.
    """

    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def build(stacks: Sequence[Stack], options: AdamWOptions) -> list[torch.optim.Optimizer]:
    return [
        AdamW(
            [stack.parameter for stack in stacks],
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
            fused=True,  # one kernel for all tensors, on the CPU and on CUDA
        )
    ]


def flops_per_step(stacks: Sequence[Stack], options: AdamWOptions) -> int:
    return FLOPS_PER_NUMBER * sum(stack.parameter.numel() for stack in stacks)
