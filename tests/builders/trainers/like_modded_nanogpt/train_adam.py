"""Trains by Adam: the settings are the script."""

import torch
from common import main


def build_optimizers(model):
    return [torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.8, 0.95))]


main(__file__, build_optimizers)
