"""Byte-pair encodings: learned from a text, or read from a file; by the library `tokenizers`."""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.errors import CorpusError, RequestError

LIBRARY = f"tokenizers {tokenizers.__version__}"
LEAST_VOCABULARY = 257  # every byte, and one merge
MOST_VOCABULARY = 65_536  # an id has 16 bits in a token file
# A pair that stands in the text once is no pattern: a token of it would never be seen again.
LEAST_COUNT = 2


@dataclass(frozen=True)
class Encoding:
    """A tokenizer, and the file that another program reads it from."""

    kind: Literal["learned", "given"]
    file: bytes  # tokenizer.json
    vocab_size: int  # ids are below it

    def encode(self, text: str, what: str = "the text") -> "array[int]":
        """Ids of a whole text, 16 bits each, without any that a tokenizer puts around texts.

        Raises:
            CorpusError: if the ids do not give the text back; the message says `what` it is.
        """
        tokenizer = Tokenizer.from_str(self.file.decode("utf-8"))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        (encoded,) = tokenizer.encode_batch_fast([text], add_special_tokens=False)
        ids: list[int] = encoded.ids
        back = tokenizer.decode(ids, skip_special_tokens=False)
        if back != text:
            unknown = _unknown_of(tokenizer)
            n_unknown = 0 if unknown is None else ids.count(unknown)
            raise CorpusError(
                f"the tokenizer does not give {what} back: {_difference(text, back, n_unknown)}. A "
                "loss on such ids is not one on this text. Give a byte-level tokenizer, or let one "
                "be learned (--vocab)."
            )
        return array("H", ids)


def learned(text: str, vocab_size: int) -> Encoding:
    """A byte-level BPE with at most so many tokens: fewer where no pair is left that repeats.

    As GPT-2's (Radford et al. 2019), it can write every text: it begins with all bytes, cuts texts
    into words by the same expression, and merges within words alone. Nothing is normalised, and no
    subword is marked by a prefix: with one, ids follow the order in which a hash table is read. So
    the same text gives the same file, in any process with any number of threads.

    Raises:
        RequestError: for a size that cannot be.
    """
    if not LEAST_VOCABULARY <= vocab_size <= MOST_VOCABULARY:
        raise RequestError(
            f"--vocab {vocab_size}: give a number from {LEAST_VOCABULARY} (every byte, and one "
            f"merge) to {MOST_VOCABULARY:,} (an id has 16 bits)."
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=LEAST_COUNT,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        special_tokens=[],
        show_progress=False,
    )
    tokenizer.train_from_iterator([text], trainer)
    file = tokenizer.to_str(pretty=True) + "\n"
    return Encoding("learned", file.encode("utf-8"), tokenizer.get_vocab_size())


def given(path: Path) -> Encoding:
    """That of a tokenizer.json of the same library, GPT-2's for instance.

    Raises:
        RequestError: if it cannot be read, draws ids at random, or has ids beyond 16 bits.
    """
    try:
        file = path.read_bytes()
        tokenizer = Tokenizer.from_str(file.decode("utf-8"))
    except Exception as error:  # the library raises no narrower one
        why = error.strerror if isinstance(error, OSError) else error
        raise RequestError(
            f"--tokenizer {path}: {why}. Give a tokenizer.json of the library tokenizers."
        ) from error
    if getattr(tokenizer.model, "dropout", None):
        raise RequestError(
            f"--tokenizer {path}: it leaves out merges at random (model.dropout), so that ids are "
            "others each time. Set model.dropout to null in a copy, and give that."
        )
    vocab_size = max(tokenizer.get_vocab().values(), default=0) + 1
    if vocab_size > MOST_VOCABULARY:
        raise RequestError(
            f"--tokenizer {path}: its ids go up to {vocab_size - 1:,}, those of a token file to "
            f"{MOST_VOCABULARY - 1:,} (16 bits). Give one with a smaller vocabulary."
        )
    return Encoding("given", file, vocab_size)


def _unknown_of(tokenizer: Tokenizer) -> int | None:
    """The id that stands for what a tokenizer does not know."""
    name = getattr(tokenizer.model, "unk_token", None)
    return None if name is None else tokenizer.token_to_id(name)


def _difference(text: str, back: str, n_unknown: int) -> str:
    pairs = enumerate(zip(text, back, strict=False))
    place = next((at for at, (one, other) in pairs if one != other), min(len(text), len(back)))
    met = f"; {n_unknown:,} tokens are unknown to it" if n_unknown else ""
    here, there = (each[place : place + 20] for each in (text, back))
    return f"from its character {place:,} on, {here!r} becomes {there!r}{met}"
