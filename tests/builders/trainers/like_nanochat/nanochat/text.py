"""Batches of the bytes of $NANOCHAT_BASE_DIR/base_data/shard_*.txt; the last shard validates."""

import os

import torch

from nanochat.common import base_dir


def batches(split, B, T, device):
    shards = sorted((base_dir() / "base_data").glob("shard_*.txt"))
    chosen = shards[-1:] if split == "val" else shards[:-1]
    tokens = torch.tensor(list(b"".join(shard.read_bytes() for shard in chosen)))
    at = int(os.environ.get("RANK", "0")) * B * T if split == "train" else 0
    while True:
        if at + B * T >= len(tokens):
            at = 0
        rows = tokens[at : at + B * T + 1].to(device)
        yield rows[:-1].view(B, T), rows[1:].view(B, T)
        at += B * T * int(os.environ.get("WORLD_SIZE", "1"))
