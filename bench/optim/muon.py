"""Muon (Jordan et al. 2024) on the blocks' hidden matrices, as torch.optim.Muon computes it.

Embeddings, head, biases and norms are AdamW's, as its authors have it; so is a mixture's router,
which like the head chooses among classes. A hidden matrix here is a logical one: one head's
projection, one expert's layer. PyTorch takes them one by one, we in batches; both orthogonalise in
bfloat16, on every device and whatever the parameters' own format, unless `ns_dtype` says otherwise.
"""

from collections.abc import Sequence
from functools import partial

import torch

from bench.border.logical import Stack
from bench.border.options import MuonOptions
from bench.optim import batched
from bench.optim.batched import BatchedMuon, Update
from bench.optim.orthogonal import by_role, orthogonalise_in_bfloat16, orthogonalise_in_float32

MUON_ROLES = ("hidden",)


class Muon(BatchedMuon):
    name = "muon"

    def __init__(self, stacks: Sequence[Stack], options: MuonOptions) -> None:
        super().__init__(stacks, options, _update(options))


def _update(options: MuonOptions) -> Update:
    in_bfloat16 = options.ns_dtype == "bfloat16"
    iterate = orthogonalise_in_bfloat16 if in_bfloat16 else orthogonalise_in_float32
    return Update(
        form="nesterov" if options.nesterov else "momentum",
        scale="sqrt_ratio" if options.adjust_lr == "original" else "match_rms",
        orthogonalise=partial(iterate, coefficients=options.coefficients),
        second_moment=options.second_moment,
        beta2=options.second_moment_decay,
        cautious=options.cautious_decay,
    )


def build(stacks: Sequence[Stack], options: MuonOptions) -> list[torch.optim.Optimizer]:
    return batched.build(Muon, by_role(stacks, MUON_ROLES), options)


def flops_per_step(stacks: Sequence[Stack], options: MuonOptions) -> int:
    return batched.flops_per_step(by_role(stacks, MUON_ROLES), options, _update(options))
