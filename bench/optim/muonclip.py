"""MuonClip: Muon, and query and key projections whose attention logits stay bounded.

Kimi Team 2025, "Kimi K2: open agentic intelligence", algorithm 1: after Muon's step, each head
whose largest logit S of the step exceeded tau has its query and its key projection scaled by
sqrt(tau / S), which brings that logit back to tau. Other heads are left alone.
"""

from collections.abc import Sequence

import torch

from bench.border.logical import Stack
from bench.border.options import MuonClipOptions
from bench.optim import batched, muon
from bench.optim.muon import MUON_ROLES, Muon
from bench.optim.orthogonal import by_role


class MuonClip(Muon):
    """Muon, and QK-clip after each of its steps."""

    name = "muonclip"

    def __init__(self, stacks: Sequence[Stack], options: MuonClipOptions) -> None:
        super().__init__(stacks, options)
        self.tau = options.tau
        self.attentions = _telling(stacks)
        for stack in self.attentions:
            assert stack.logits is not None
            stack.logits.asked = True

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        super().step()
        for stack in self.attentions:
            if stack.parameter.grad is None:  # the step has left it alone, and so do we
                assert stack.logits is not None
                stack.logits.largest = None
            else:
                clip_heads(stack, self.tau)


@torch.no_grad()
def clip_heads(stack: Stack, tau: float) -> None:
    """Scale the heads whose largest logit of the last forward pass exceeded tau.

    Raises:
        RuntimeError: where no forward pass in training has told its logits since the last step.
    """
    assert stack.logits is not None
    largest = stack.logits.largest  # (heads,)
    stack.logits.largest = None
    if largest is None:
        raise RuntimeError(
            f"{stack.names[0]}: no attention logits since the last step. muonclip needs a forward "
            "pass with gradients before each step: call model(tokens) and backward() first"
        )
    share = torch.where(largest > tau, tau / largest, 1.0).sqrt()
    heads = stack.view(stack.parameter.detach())  # (projections x heads, rows, columns)
    heads[: 2 * stack.heads].mul_(share.repeat(2).view(-1, 1, 1))


def build(stacks: Sequence[Stack], options: MuonClipOptions) -> list[torch.optim.Optimizer]:
    """Muon with QK-clip, and AdamW.

    Raises:
        ValueError: for stacks of which none tells its heads' logits.
    """
    if not _telling(stacks):
        raise ValueError(
            "muonclip bounds the logits of attention heads, and this model tells of none: give "
            "the stack of its query and key projections `heads` and `logits` "
            "(bench/border/logical.py), or take muon"
        )
    return batched.build(MuonClip, by_role(stacks, MUON_ROLES), options)


def flops_per_step(stacks: Sequence[Stack], options: MuonClipOptions) -> int:
    """Muon's and the scaling of queries and keys; the logits are the forward pass's work."""
    scaled = sum(2 * stack.heads * stack.shape[0] * stack.shape[1] for stack in _telling(stacks))
    return muon.flops_per_step(stacks, options) + scaled


def _telling(stacks: Sequence[Stack]) -> list[Stack]:
    """Those whose heads' logits the model tells."""
    return [stack for stack in stacks if stack.logits is not None]
