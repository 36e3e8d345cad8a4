"""Files of token ids, written by the formats' own descriptions."""

import struct
from collections.abc import Sequence

IDS = [0, 1, 255, 256, 50_256, 32_768, 40_000, 7, 198, 50_256, 11]


def little(ids: Sequence[int]) -> bytes:
    """Tokens and nothing else, as nanoGPT writes them."""
    return struct.pack(f"<{len(ids)}H", *ids)


def shard(ids: Sequence[int]) -> bytes:
    """As llm.c and modded-nanogpt write it."""
    return struct.pack("<256i", 20240520, 1, len(ids), *[0] * 253) + little(ids)


def npy(ids: Sequence[int], version: int = 1) -> bytes:
    """As NumPy writes an array of one dimension: the header is filled up to 64 bytes."""
    text = f"{{'descr': '<u2', 'fortran_order': False, 'shape': ({len(ids)},), }}".encode()
    form = "<H" if version == 1 else "<I"
    before = len(b"\x93NUMPY") + 2 + struct.calcsize(form)
    text += b" " * (-(before + len(text) + 1) % 64) + b"\n"
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack(form, len(text)) + text + little(ids)
