"""AdamW (Loshchilov and Hutter 2019), PyTorch's own, on every parameter."""

import inspect
from collections.abc import Sequence

import torch
from torch import Tensor

from bench.border.logical import Stack
from bench.border.options import AdamWOptions
from bench.optim.kept import KeepsPlace
from bench.optim.memory import by_memory, refuse_repeats, refuse_sparse, repeats_memory

# Elementwise operations a number and step, by PyTorch's formula: decay 1, first moment 3,
# second moment 4, denominator 3, update 3.
FLOPS_PER_NUMBER = 14


class AdamW(KeepsPlace, torch.optim.AdamW):
    """PyTorch's AdamW, one tensor after another, whatever their memory is like.

    The counts of all tensors' steps are one tensor.
    """

    # Without what loads torch's compiler at each step.
    _plain_step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))

    def __init__(self, stacks: Sequence[Stack], options: AdamWOptions) -> None:
        parameters: list[Tensor] = [stack.parameter for stack in stacks]
        super().__init__(
            parameters,
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
            foreach=False,
            capturable=parameters[0].is_cuda,  # the counts lie where the parameters do
        )
        self.stacks = stacks
        self.repeating = [stack for stack in stacks if repeats_memory(stack.parameter)]
        self.counts = torch.zeros(len(stacks), device=parameters[0].device)
        self.count_of = dict(zip(parameters, self.counts.unbind(), strict=True))
        self.remember()

    def fresh(self, parameter: Tensor) -> dict[str, Tensor]:
        return {
            "step": self.count_of[parameter],
            "exp_avg": torch.zeros_like(parameter),
            "exp_avg_sq": torch.zeros_like(parameter),
        }

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        refuse_repeats(self.repeating)
        for stack in self.stacks:
            refuse_sparse(stack, "adamw")
        self._plain_step()


class FusedAdamW(AdamW):
    """PyTorch's fused kernel, one for all tensors, each of them contiguous.

    PyTorch adds 1 to each tensor's count by an operation of its own, which for the fifty tensors
    of a nano model takes longer than the update. Ours does so only where some have no gradient.
    """

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        stacks = [stack for stack in self.stacks if stack.parameter.grad is not None]
        if not stacks:
            return
        parameters: list[Tensor] = [stack.parameter for stack in stacks]
        states = [self.state_of(parameter) for parameter in parameters]
        gradients = [_contiguous_gradient(stack) for stack in stacks]
        counts = [state["step"] for state in states]
        if len(stacks) == len(self.stacks):
            self.counts += 1
        else:
            torch._foreach_add_(counts, 1)
        beta1, beta2 = group["betas"]
        torch._fused_adamw_(
            parameters,
            gradients,
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            counts,
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def _contiguous_gradient(stack: Stack) -> Tensor:
    gradient = stack.parameter.grad
    assert gradient is not None
    if gradient.is_contiguous():  # which a sparse one never is
        return gradient
    refuse_sparse(stack, "adamw")
    return gradient.contiguous()


def build(stacks: Sequence[Stack], options: AdamWOptions) -> list[torch.optim.Optimizer]:
    parts = zip((FusedAdamW, AdamW), by_memory(stacks), strict=True)
    return [kind(part, options) for kind, part in parts if part]


def flops_per_step(stacks: Sequence[Stack], options: AdamWOptions) -> int:
    return FLOPS_PER_NUMBER * sum(stack.parameter.numel() for stack in stacks)
