"""Stochastic gradient descent with momentum (Polyak 1964), PyTorch's own, on every parameter."""

import inspect
from collections.abc import Sequence

import torch

from bench.logical import Stack
from bench.options import SGDOptions


class SGD(torch.optim.SGD):
    """PyTorch's SGD and its fused kernel, without what loads torch's compiler at each step."""

    step = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


def build(stacks: Sequence[Stack], options: SGDOptions) -> list[torch.optim.Optimizer]:
    if not stacks:
        return []
    made = SGD(
        [stack.parameter for stack in stacks],
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        fused=True,  # one kernel for all tensors, on the CPU and on CUDA
    )
    return [made]


def flops_per_step(stacks: Sequence[Stack], options: SGDOptions) -> int:
    """Elementwise: the update and whichever of decay, momentum and Nesterov's form are asked for.

    Each is one multiplication and one addition a number.
    """
    parts = 1 + sum(map(bool, (options.weight_decay, options.momentum, options.nesterov)))
    return 2 * parts * sum(stack.parameter.numel() for stack in stacks)
