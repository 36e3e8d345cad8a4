"""A text as token ids, one a character, in the form that cells map into memory.

One array of int32 in the machine's byte order: how many distinct characters the text has, their
code points in rising order, then for each of the text's characters its rank among them. So the
text, and with it its SHA-256, follows from the array: `read_tokens` of the worker checks it.
"""

import sys
from array import array

UTF_32 = "utf-32-le" if sys.byteorder == "little" else "utf-32-be"


def tokenise(text: str) -> bytes:
    """The array's bytes. By str.translate, which takes a millisecond for a million of ASCII."""
    vocabulary = sorted(set(text))
    ranks = text.translate({ord(character): rank for rank, character in enumerate(vocabulary)})
    head = array("i", [len(vocabulary), *map(ord, vocabulary)])
    # Each rank is a character's code point by now, and some are of the surrogates, which no text
    # may hold.
    return head.tobytes() + ranks.encode(UTF_32, "surrogatepass")
