"""Muon (Jordan et al. 2024), PyTorch's own, on the blocks' hidden matrices.

Embeddings, head, biases and norms are AdamW's, as its authors have it; so is a mixture's router,
which like the head chooses among classes. A hidden matrix here is a logical one: one head's
projection, one expert's layer. PyTorch's Muon orthogonalises in bfloat16, on every device and
whatever the parameters' own format.
"""

from collections.abc import Sequence

import torch

from bench.border.logical import Stack
from bench.border.options import MuonOptions
from bench.optim import adamw
from bench.optim.leaves import Leaves, OnLeaves
from bench.optim.memory import refuse_complex
from bench.optim.orthogonal import by_role, of_the_rest, products_flops

# Operations a number: momentum 3, norm and division 3, decay and update 4; Nesterov's form.
ELEMENTWISE_FLOPS = 10
NESTEROV_FLOPS = 3

MUON_ROLES = ("hidden",)


def build(stacks: Sequence[Stack], options: MuonOptions) -> list[torch.optim.Optimizer]:
    hidden, rest = by_role(stacks, MUON_ROLES)
    on_leaves = [_on_leaves(hidden, options)] if hidden else []
    return [*on_leaves, *adamw.build(rest, of_the_rest(options))]


def _on_leaves(stacks: Sequence[Stack], options: MuonOptions) -> OnLeaves:
    refuse_complex([stack for stack in stacks if stack.parameter.requires_grad], "muon")
    leaves = Leaves(stacks)
    inner = torch.optim.Muon(
        leaves.tensors,
        lr=options.lr,
        momentum=options.momentum,
        nesterov=options.nesterov,
        weight_decay=options.weight_decay,
        ns_steps=options.ns_steps,
        adjust_lr_fn=options.adjust_lr,
    )
    for stack in stacks:
        if stack.parameter.requires_grad:
            for leaf in leaves.of(stack):  # a CUDA graph would begin each time with what it makes
                inner.state[leaf]["momentum_buffer"] = torch.zeros_like(leaf)
    return OnLeaves(leaves, inner)


def flops_per_step(stacks: Sequence[Stack], options: MuonOptions) -> int:
    hidden, rest = by_role(stacks, MUON_ROLES)
    products = products_flops(hidden, options.ns_steps)
    a_number = ELEMENTWISE_FLOPS + (NESTEROV_FLOPS if options.nesterov else 0)
    elementwise = a_number * sum(stack.parameter.numel() for stack in hidden)
    return products + elementwise + adamw.flops_per_step(rest, of_the_rest(options))
