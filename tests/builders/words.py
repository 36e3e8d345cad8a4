"""A text that is the same in every Python, as `pydoc` is not: words drawn by chance.

Of Python's `random` only seeding and `random()` are promised to give the same figures for ever.
"""

import random
from functools import cache

from bench.worker.data import Tokens
from tests.perf.arms import tokens_of

LETTERS = "etaoinshrdlucmfwypvbgkjqxz"  # of English, the most frequent first
N_WORDS = 300
N_CHARACTERS = 200_000


@cache
def words() -> str:
    """Lines of ten words, 200,000 characters."""
    chance = random.Random(1)

    def skewed(n: int) -> int:
        return int(n * chance.random() ** 3)

    known = ["".join(LETTERS[skewed(26)] for _ in range(2 + skewed(8))) for _ in range(N_WORDS)]
    lines, length = [], 0
    while length < N_CHARACTERS:
        lines.append(" ".join(known[skewed(N_WORDS)] for _ in range(10)) + ".\n")
        length += len(lines[-1])
    return "".join(lines)[:N_CHARACTERS]


@cache
def word_tokens() -> Tokens:
    return tokens_of(words())
