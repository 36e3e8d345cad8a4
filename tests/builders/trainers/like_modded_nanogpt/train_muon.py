"""Trains its matrices by orthogonalised momentum, the rest by Adam: the settings are the script."""

import torch
from common import main


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(p.grad)
                U, _, V = torch.linalg.svd(buffer, full_matrices=False)
                p.add_(U @ V, alpha=-group["lr"])


def build_optimizers(model):
    rest = [model.embed.weight, model.head.weight]
    return [Muon(model.matrices(), lr=0.05, momentum=0.9), torch.optim.Adam(rest, lr=0.01)]


main(__file__, build_optimizers)
