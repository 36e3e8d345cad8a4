"""Writes train.bin, val.bin (uint16) and meta.pkl beside itself, of a text made up here."""

import pickle
from pathlib import Path

import numpy as np

text = "the quick brown fox jumps over the lazy dog\n" * 91
letters = sorted(set(text))
tokens = np.array([letters.index(letter) for letter in text], dtype=np.uint16)
split = int(0.9 * len(tokens))
here = Path(__file__).parent
tokens[:split].tofile(here / "train.bin")
tokens[split:].tofile(here / "val.bin")
(here / "meta.pkl").write_bytes(pickle.dumps({"vocab_size": len(letters)}))
