"""Where things are, which device, the seed."""

import os
from pathlib import Path

import torch


def base_dir():
    return Path(os.environ.get("NANOCHAT_BASE_DIR", Path.home() / ".cache" / "nanochat"))


def print0(text):
    if int(os.environ.get("RANK", "0")) == 0:
        print(text)


def compute_init(device_type):
    """The number of processes, and this one's device."""
    device_type = device_type or ("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(42)
    if device_type == "cuda":
        torch.cuda.manual_seed(42)
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size > 1:
        torch.distributed.init_process_group("nccl" if device_type == "cuda" else "gloo")
    return world_size, torch.device(device_type, int(os.environ.get("LOCAL_RANK", "0")))
