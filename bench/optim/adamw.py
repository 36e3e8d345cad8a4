"""AdamW (Loshchilov and Hutter 2019), PyTorch's own, on every parameter."""

from collections.abc import Sequence

import torch
from torch import Tensor

from bench.logical import Stack
from bench.options import AdamWOptions

# Elementwise operations a number and step, by PyTorch's formula: decay 1, first moment 3,
# second moment 4, denominator 3, update 3.
FLOPS_PER_NUMBER = 14


class AdamW(torch.optim.AdamW):
    """PyTorch's AdamW and its fused kernel, with one step count for all tensors.

    PyTorch keeps a count a tensor and adds 1 to each by an operation of its own, which for the
    fifty tensors of a nano model takes longer than the update.
    """

    def __init__(self, parameters: Sequence[Tensor], options: AdamWOptions) -> None:
        super().__init__(
            parameters,
            lr=options.lr,
            betas=(options.beta1, options.beta2),
            eps=options.eps,
            weight_decay=options.weight_decay,
            fused=True,  # one kernel for all tensors, on the CPU and on CUDA
        )
        steps = torch.zeros((), device=parameters[0].device)
        for parameter in parameters:
            self.state[parameter] = {
                "step": steps,
                "exp_avg": torch.zeros_like(parameter),
                "exp_avg_sq": torch.zeros_like(parameter),
            }

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        (group,) = self.param_groups
        parameters = [each for each in group["params"] if each.grad is not None]
        beta1, beta2 = group["betas"]
        steps = self.state[group["params"][0]]["step"]
        steps += 1
        torch._fused_adamw_(
            parameters,
            [parameter.grad for parameter in parameters],
            [self.state[parameter]["exp_avg"] for parameter in parameters],
            [self.state[parameter]["exp_avg_sq"] for parameter in parameters],
            [],
            [steps] * len(parameters),
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )


def build(stacks: Sequence[Stack], options: AdamWOptions) -> list[torch.optim.Optimizer]:
    return [AdamW([stack.parameter for stack in stacks], options)] if stacks else []


def flops_per_step(stacks: Sequence[Stack], options: AdamWOptions) -> int:
    return FLOPS_PER_NUMBER * sum(stack.parameter.numel() for stack in stacks)
