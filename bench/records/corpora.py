"""A corpus -> one file in the cache, named by its content, that every cell of a matrix reads."""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from bench.border.options import DataOptions
from bench.border.spec import CorpusRef
from bench.border.tokenised import tokenise
from bench.errors import CorpusError
from bench.records.cache import cache_folder, check_stored, sha256_of, store

DEFAULT_FILE = "input.txt"
MAX_VOCABULARY = 65_536

TINYSHAKESPEARE_SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TINYSHAKESPEARE_URL = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
)
FETCH_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Corpus:
    """A text that is known by content. Only the first two fields are part of an identity."""

    name: str
    sha256: str
    n_chars: int
    vocab_size: int
    chosen: str  # one line for the person: which text, and why
    load: Callable[[], bytes]

    @property
    def ref(self) -> CorpusRef:
        return CorpusRef(self.name, self.sha256)

    @property
    def size(self) -> str:
        """How much it is, for the person."""
        return f"{self.n_chars:,} characters, {self.vocab_size} distinct"

    @property
    def held_bytes(self) -> int:
        """Of a cell's memory: its token ids, which every cell reads whole to check them."""
        return 4 * self.n_chars

    def lengths(self, data: DataOptions) -> dict[str, int]:
        """Tokens of each split, a character each."""
        return _lengths(self.n_chars, data)

    def check(self, block_size: int, data: DataOptions) -> None:
        """Every split holds at least one block and the character that follows it."""
        shortest = _shortest_split(self.n_chars, data)
        if shortest > block_size:
            return
        remedy = f"a text of at least {_shortest_text(block_size, data):,} characters"
        if shortest > 1:
            remedy += f" or a smaller train.block_size, of at most {shortest - 1:,}"
        raise CorpusError(
            f"corpus {self.name}: {self.n_chars:,} characters leave a split of {shortest:,}, "
            f"shorter than one block of {block_size} and its next character. Use {remedy}."
        )

    def val_bytes_per_token(self, data: DataOptions) -> float | None:
        """UTF-8 bytes of the validation split over its characters, each of which is a token.

        Of token files (bench/records/sidecar.py) it may be unknown; of a text it never is.
        """
        return _val_bytes_per_char(self, data)

    @property
    def file(self) -> Path:
        """Where its text lies in the cache, once it is stored."""
        return _in_cache(f"{self.sha256}.txt")

    def store(self) -> Path:
        """The text's file in the cache, written (or fetched) if it is not there yet."""
        return store(self.file, self._loaded)

    def _loaded(self) -> dict[str, bytes]:
        files = {"": self.load()}
        if (found := sha256_of(files)) != self.sha256:
            raise CorpusError(
                f"corpus {self.name}: its SHA-256 is {found}, not {self.sha256}. "
                "It changed or was not transferred whole; nothing was run with it. Run again."
            )
        return files

    def store_tokens(self) -> Path:
        """The file that cells map, in the cache: the text's tokens, named by their own SHA-256.

        They are made anew by every run, and written where they are not there yet: in a
        millisecond for a million of ASCII characters, so that no older file needs to be trusted.
        """
        files = {"": tokenise(self.store().read_bytes().decode("utf-8"))}
        return store(_in_cache(f"{sha256_of(files)}.tokens"), lambda: files)

    def for_cells(self) -> tuple[Path, ...]:
        """The files that cells map: one."""
        return (self.store_tokens(),)

    def check_after(self, files: Sequence[Path]) -> None:
        """Nobody rewrites what is in the cache, and what was removed stays mapped."""

    def check_unchanged(self, files: Sequence[Path]) -> None:
        """These, of `for_cells`, are still what they were: before each cell, which maps them.

        Raises:
            CacheError: if one is gone or another.
        """
        for file in files:
            check_stored(file, f"corpus {self.name}")


@lru_cache(maxsize=1)  # for each of a matrix's cells the same, and of a long text no trifle
def _val_bytes_per_char(corpus: Corpus, data: DataOptions) -> float:
    content = corpus.store().read_bytes()
    if len(content) == corpus.n_chars:  # all of it ASCII
        return 1.0
    n_train, end = data.bounds(corpus.n_chars)
    split = content.decode("utf-8")[n_train:end]
    return len(split.encode("utf-8")) / len(split)


def _shortest_split(n_chars: int, data: DataOptions) -> int:
    """Its characters, of a text of so many."""
    return min(_lengths(n_chars, data).values())


def _lengths(n_chars: int, data: DataOptions) -> dict[str, int]:
    """Characters of each split, of a text of so many."""
    n_train, end = data.bounds(n_chars)
    ends = ("train", n_train), ("val", end - n_train), ("test", n_chars - end)
    return dict(ends[: len(data.shares)])


def _shortest_text(block_size: int, data: DataOptions) -> int:
    """From how many characters on every split has a block and the character after it.

    Shares are cut to whole characters, so that a split may be one shorter in a longer text.
    """
    enough = math.ceil((block_size + 2) / min(data.shares)) + 1
    # For a share so small that this does not reach down, the text is longer than it had to be.
    for n_chars in range(enough - 1, max(enough - 100_000, 0), -1):
        if _shortest_split(n_chars, data) <= block_size:
            return n_chars + 1
    return enough


def _in_cache(name: str) -> Path:
    return cache_folder() / "corpora" / name


def find_corpus(asked: str | None, folder: Path = Path()) -> Corpus:
    """The text that a matrix means: a built-in's name, a path, or the default. Fetches nothing.

    `folder`: where a relative path starts, that of the matrix file. The default text is looked for
    in the current folder.

    Raises:
        CorpusError: if it is missing, empty, not UTF-8 or has too many distinct characters.
    """
    if asked is None:
        if Path(DEFAULT_FILE).is_file():
            return _from_file(DEFAULT_FILE, Path(), f"{DEFAULT_FILE}, found in this folder")
        return _pydoc(f"pydoc, Python's own reference manual (no {DEFAULT_FILE} in this folder)")
    if asked in BUILT_IN:
        return BUILT_IN[asked](asked)
    return _from_file(asked, folder, str(folder / os.path.expanduser(asked)))


def _from_file(asked: str, folder: Path, chosen: str) -> Corpus:
    path = folder / os.path.expanduser(asked)
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        what = f"corpus {asked}: {why} (looked for it from {folder.absolute()})."
        if isinstance(error, FileNotFoundError) and os.path.isfile(asked):
            there = os.path.relpath(asked, os.path.realpath(folder))
            raise CorpusError(
                f"{what} A relative path in a matrix starts at the matrix file. The current "
                f"folder has such a file: write {there}."
            ) from error
        built_in = ", ".join(sorted(BUILT_IN))
        raise CorpusError(f"{what} Give a path, or a built-in: {built_in}.") from error
    return _from_bytes(path.name, content, chosen)


def _from_bytes(name: str, content: bytes, chosen: str) -> Corpus:
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"corpus {name}: not UTF-8, byte {error.start} is 0x{content[error.start]:02x}. "
            "Convert it to UTF-8 first; files of token ids are named by data.tokens."
        ) from error
    if not text:
        raise CorpusError(f"corpus {name}: the file is empty. Give a text.")
    vocab_size = len(set(text))
    if vocab_size > MAX_VOCABULARY:
        raise CorpusError(
            f"corpus {name}: {vocab_size:,} distinct characters; at most {MAX_VOCABULARY:,} are "
            "supported, as each is a token. Use a text with fewer."
        )
    return Corpus(name, sha256_of({"": content}), len(text), vocab_size, chosen, lambda: content)


def _pydoc(chosen: str) -> Corpus:
    """The reference manual that every Python carries, topics sorted by key.

    About 465,000 characters of English technical prose. It differs between Python versions:
    its hash decides what may be compared.
    """
    from pydoc_data.topics import topics  # half a megabyte that only this corpus needs

    content = "\n\n".join(topics[key] for key in sorted(topics)).encode()
    return _from_bytes("pydoc", content, chosen)


def _tinyshakespeare(chosen: str) -> Corpus:
    return Corpus(chosen, TINYSHAKESPEARE_SHA256, 1_115_394, 65, chosen, _fetch_tinyshakespeare)


def _fetch_tinyshakespeare() -> bytes:
    import http.client  # some 30 ms that every other command would wait for
    import urllib.request

    try:
        with urllib.request.urlopen(TINYSHAKESPEARE_URL, timeout=FETCH_TIMEOUT_S) as answer:
            content: bytes = answer.read()
            return content
    except (OSError, http.client.HTTPException) as error:
        raise CorpusError(
            f"corpus tinyshakespeare: {TINYSHAKESPEARE_URL} cannot be fetched ({error}). "
            f"Bring the file by other means and put it at "
            f"{_in_cache(f'{TINYSHAKESPEARE_SHA256}.txt')}, "
            f"or name a text of your own in the matrix (data: {{corpus: PATH}})."
        ) from error


BUILT_IN: dict[str, Callable[[str], Corpus]] = {
    "pydoc": _pydoc,
    "tinyshakespeare": _tinyshakespeare,
}
