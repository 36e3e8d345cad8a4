"""Independent streams of randomness, each named by (seed, key...).

Nothing is drawn from a shared stream: what one arm draws never shifts what another sees.
"""

import hashlib
import random

import numpy as np
import torch


def stream_seed(seed: int, *key: str | int) -> int:
    """63 bits of the SHA-256 over seed and key."""
    text = "/".join(str(part) for part in (seed, *key))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def torch_stream(seed: int, *key: str | int) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(stream_seed(seed, *key))


def numpy_stream(seed: int, *key: str | int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(stream_seed(seed, *key)))


def seed_shared_streams(seed: int, *key: str | int) -> None:
    """Begin the streams that torch, numpy and Python share out, for code that draws from them.

    Built-in models and optimizers do not; a dropout does.
    """
    start = stream_seed(seed, *key)
    torch.manual_seed(start)
    np.random.seed(start % 2**32)
    random.seed(start)
