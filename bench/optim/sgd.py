"""Stochastic gradient descent with momentum (Polyak 1964), PyTorch's own, on every parameter."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.border.logical import Stack
from bench.border.options import SGDOptions
from bench.optim.kept import KeepsPlace
from bench.optim.memory import by_memory, refuse_repeats, repeats_memory


class SGD(KeepsPlace, torch.optim.SGD):
    """PyTorch's SGD, one tensor after another, whatever their memory is like.

    The loop is written out, since PyTorch's reads a rate that is a tensor on the host. The momentum
    begins as zeros, which gives the b = g of PyTorch's first step. A sparse gradient is made dense:
    momentum and decay reach all numbers, so that the figures are the same.
    """

    def __init__(self, stacks: Sequence[Stack], options: SGDOptions) -> None:
        super().__init__(
            [stack.parameter for stack in stacks],
            lr=options.lr,
            momentum=options.momentum,
            nesterov=options.nesterov,
            weight_decay=options.weight_decay,
            foreach=False,
        )
        self.has_momentum = options.momentum != 0
        self.repeating = [stack for stack in stacks if repeats_memory(stack.parameter)]
        self.remember()

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        return {"momentum_buffer": torch.zeros_like(parameter)} if self.has_momentum else {}

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        refuse_repeats(self.repeating)
        (group,) = self.param_groups
        rate, beta = group["lr"], group["momentum"]
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            gradient = parameter.grad.to_dense()
            if group["weight_decay"]:
                gradient = gradient.add(parameter, alpha=group["weight_decay"])
            if self.has_momentum:
                momentum = self.state_of(parameter)["momentum_buffer"]
                momentum.mul_(beta).add_(gradient)
                gradient = gradient.add(momentum, alpha=beta) if group["nesterov"] else momentum
            if isinstance(rate, Tensor):
                parameter.addcmul_(gradient, rate, value=-1)
            else:
                parameter.add_(gradient, alpha=-rate)


class FusedSGD(SGD):
    """PyTorch's fused kernel, one for all tensors, each of them contiguous."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        parameters = [each for each in group["params"] if each.grad is not None]
        if not parameters:
            return
        states = [self.state_of(parameter) for parameter in parameters]
        torch._fused_sgd_(
            parameters,
            [_contiguous(parameter.grad) for parameter in parameters],
            [state["momentum_buffer"] for state in states] if self.has_momentum else [],
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
            is_first_step=False,
        )


def _contiguous(gradient: Tensor) -> Tensor:
    # A sparse one is never contiguous.
    return gradient if gradient.is_contiguous() else gradient.to_dense().contiguous()


def build(stacks: Sequence[Stack], options: SGDOptions) -> list[torch.optim.Optimizer]:
    parts = zip((FusedSGD, SGD), by_memory(stacks), strict=True)
    return [kind(part, options) for kind, part in parts if part]


def flops_per_step(stacks: Sequence[Stack], options: SGDOptions) -> int:
    """Elementwise: the update and whichever of decay, momentum and Nesterov's form are asked for.

    Each is one multiplication and one addition a number.
    """
    parts = 1 + sum(map(bool, (options.weight_decay, options.momentum, options.nesterov)))
    return 2 * parts * sum(stack.parameter.numel() for stack in stacks)
