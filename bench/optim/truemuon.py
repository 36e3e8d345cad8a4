"""TrueMuon: the original's Muon-like optimizer.

The original differs from Muon in its momentum (m <- 0.9 m + 0.1 g, then 0.9 m + g), in its missing
scale by shape, in treating every head's matrix by itself, and the router as a hidden matrix; so do
we, unless a switch asks for Muon's way.
"""

from collections.abc import Sequence
from functools import partial

import torch

from bench.border.logical import Stack
from bench.border.options import TrueMuonOptions
from bench.optim import batched
from bench.optim.batched import BatchedMuon, Update
from bench.optim.orthogonal import by_role, orthogonalise


class TrueMuon(BatchedMuon):
    """It orthogonalises in the parameters' own number format."""

    name = "truemuon"

    def __init__(self, stacks: Sequence[Stack], options: TrueMuonOptions) -> None:
        super().__init__(stacks, options, _update(options))


def _update(options: TrueMuonOptions) -> Update:
    iterate = partial(orthogonalise, coefficients=options.coefficients)
    return Update(options.momentum_form, options.update_scale, iterate)


def _divide(stacks: Sequence[Stack], options: TrueMuonOptions) -> tuple[list[Stack], list[Stack]]:
    """The stacks whose matrices are orthogonalised, as they are, and AdamW's."""
    roles = ("hidden", "router") if options.router == "truemuon" else ("hidden",)
    matrices, rest = by_role(stacks, roles)
    if options.heads == "together":
        matrices = [stack.joined() for stack in matrices]
    return matrices, rest


def build(stacks: Sequence[Stack], options: TrueMuonOptions) -> list[torch.optim.Optimizer]:
    return batched.build(TrueMuon, _divide(stacks, options), options)


def flops_per_step(stacks: Sequence[Stack], options: TrueMuonOptions) -> int:
    return batched.flops_per_step(_divide(stacks, options), options, _update(options))
