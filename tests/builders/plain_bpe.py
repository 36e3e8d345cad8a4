"""Byte-pair encoding as it is defined (Sennrich et al. 2016), on words as GPT-2 cuts ASCII."""

import re
from collections import Counter
from itertools import pairwise

WORDS = re.compile(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+", re.ASCII
)
# GPT-2 writes each byte as a character that can be seen: these stand for themselves.
SEEN = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), 256)]
UNSEEN = [byte for byte in range(256) if byte not in SEEN]
SHOWN = {byte: chr(byte) for byte in SEEN} | {byte: chr(256 + n) for n, byte in enumerate(UNSEEN)}


def words_of(text: str) -> list[list[str]]:
    return [[SHOWN[byte] for byte in word.encode()] for word in WORDS.findall(text)]


def merged(word: list[str], pair: tuple[str, str]) -> list[str]:
    """A word with every such pair made one, from its start on."""
    found: list[str] = []
    for piece in word:
        if found and (found[-1], piece) == pair:
            found[-1] += piece
        else:
            found.append(piece)
    return found


def plain_merges(text: str, vocab_size: int, least_count: int) -> list[tuple[str, str]]:
    """Each the most frequent pair there is; of several, that with the lowest ids."""
    words = words_of(text)
    ids = {token: number for number, token in enumerate(sorted(SHOWN.values()))}
    merges = []
    while len(ids) < vocab_size:
        count = Counter(pair for word in words for pair in pairwise(word))
        if not count or max(count.values()) < least_count:
            break
        best = min(count, key=lambda pair: (-count[pair], ids[pair[0]], ids[pair[1]]))
        merges.append(best)
        ids.setdefault("".join(best), len(ids))
        words = [merged(word, best) for word in words]
    return merges
