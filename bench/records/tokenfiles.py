"""Files of token ids that a matrix names -> a corpus that is known by their content."""

import glob
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench.border.options import DataOptions
from bench.border.spec import CorpusRef, TokenFile, TokenFiles
from bench.errors import CodeError, CorpusError
from bench.records.cache import remembered
from bench.records.corpora import Corpus
from bench.records.ownprogram import DataFolder, read_data
from bench.records.shards import VOCABULARY, Layout, read_layout, read_through, wrong
from bench.records.sidecar import known_of, vocab_size_beside
from bench.statistics.text import counted

# Is told while files are read how many bytes of them are done, and how many they have in all.
Watch = Callable[[int, int], None]


@dataclass(frozen=True)
class TokensAsked:
    """What a matrix says: paths of each split, which may be patterns, and how many ids exist."""

    splits: Mapping[str, Sequence[str]]
    vocab_size: int | None


@dataclass(frozen=True)
class Shard:
    """One file, as it was when it was read."""

    split: str
    layout: Layout
    data: DataFolder  # of this one file
    sha256: str

    @property
    def path(self) -> Path:
        return self.data.path

    @property
    def ref(self) -> TokenFile:
        with self.path.open("rb") as file:
            header = hashlib.sha256(file.read(self.layout.offset)).hexdigest()
        return TokenFile(self.split, self.layout.offset, self.layout.count, header)


@dataclass(frozen=True)
class TokenCorpus:
    """Token ids in files of the user's, which cells map where they lie."""

    name: str
    sha256: str  # over splits, the files' own SHA-256 in their order, and vocab_size
    vocab_size: int
    chosen: str  # one line for the person: which files
    shards: tuple[Shard, ...]  # in the order of splits, and of the matrix within a split
    bytes_per_token: Mapping[str, float]  # of UTF-8, by split; absent where nothing tells it

    @property
    def ref(self) -> CorpusRef:
        files = tuple(shard.ref for shard in self.shards)
        return CorpusRef(self.name, self.sha256, TokenFiles(self.vocab_size, files))

    @property
    def size(self) -> str:
        """How much it is, for the person."""
        told = ", ".join(f"{split} {n:,}" for split, n in self.lengths(DataOptions()).items())
        total = sum(shard.layout.count for shard in self.shards)
        files = counted(len(self.shards), "file")
        return f"{total:,} tokens in {files} ({told}), {self.vocab_size:,} ids"

    @property
    def held_bytes(self) -> int:
        """Of a cell's memory: none, for the kernel can take back what is mapped from a file."""
        return 0

    def lengths(self, data: DataOptions) -> dict[str, int]:
        """Tokens of each split, which its files tell."""
        found: dict[str, int] = {}
        for shard in self.shards:
            found[shard.split] = found.get(shard.split, 0) + shard.layout.count
        return found

    def val_bytes_per_token(self, data: DataOptions) -> float | None:
        return self.bytes_per_token.get("val")

    def check(self, block_size: int, data: DataOptions) -> None:
        """Every file holds at least one block and the token that follows it.

        Raises:
            CorpusError: for one that does not.
        """
        for shard in self.shards:
            if shard.layout.count <= block_size:
                what = f"the file ends here, after {counted(shard.layout.count, 'token')}"
                remedy = f"A block of {block_size:,} and its next token need {block_size + 1:,}"
                raise wrong(shard.path, shard.layout.size, what, f"{remedy}: leave the file out")

    def for_cells(self) -> tuple[Path, ...]:
        """The files that cells map, in the order of `ref`."""
        return tuple(shard.path for shard in self.shards)

    def check_unchanged(self, files: Sequence[Path]) -> None:
        """These, of `for_cells`, are still what they were: before each cell, which maps them.

        Raises:
            CorpusError: if one is gone or another.
        """
        for shard, path in zip(self.shards, files, strict=True):
            self._check(shard, path)

    def check_after(self, files: Sequence[Path]) -> None:
        """None of these was rewritten while a cell had it mapped; one that is gone stays mapped.

        Raises:
            CorpusError: if one was.
        """
        for shard, path in zip(self.shards, files, strict=True):
            if path.exists():
                self._check(shard, path)

    def _check(self, shard: Shard, path: Path) -> None:
        now = _data(path)
        if now.files == shard.data.files:
            return
        layout = read_layout(path)
        if _sha256(now, layout, self.vocab_size, lambda done: None) != shard.sha256:
            raise CorpusError(
                f"{path} changed while cells ran: rows would tell the hash of other tokens. "
                "Run again: what is open runs with what is there now."
            )


AnyCorpus = Corpus | TokenCorpus


def token_paths(asked: TokensAsked, folder: Path) -> dict[str, list[Path]]:
    """The files of each split; those that a pattern fits are sorted by name.

    `folder`: where a relative path starts, that of the matrix file.

    Raises:
        CorpusError: for a path or a pattern that nothing fits, and for a file that is given twice.
    """
    found = {
        split: [path for each in given for path in _fitting(each, folder)]
        for split, given in asked.splits.items()
    }
    first: dict[str, str] = {}  # the split of each file, by its path without links
    for split, paths in found.items():
        for path in paths:
            real = os.path.realpath(path)
            if real in first:
                places = split if first[real] == split else f"{first[real]} and in {split}"
                raise CorpusError(f"{path} is given twice, in {places}. Leave one out.")
            first[real] = split
    return found


def _fitting(asked: str, folder: Path) -> list[Path]:
    pattern = os.path.expanduser(asked)
    if os.path.lexists(folder / pattern):  # also if its name has a bracket
        return [folder / pattern]
    if found := sorted(glob.glob(pattern, root_dir=folder)):
        return [folder / name for name in found]
    what = "no file fits it" if glob.has_magic(pattern) else "it is not there"
    raise CorpusError(
        f"{asked}: {what} (looked for it from {folder.absolute()}). A relative path in a matrix "
        "starts at the matrix file, in one that comes along at the current folder. Of a text, "
        "`bench tokenise TEXT --out DIR` makes such files."
    )


def find_tokens(
    asked: TokensAsked, folder: Path, watch: Watch = lambda done, total: None
) -> TokenCorpus:
    """The corpus of token files that a matrix means: each is read once, whole, part by part.

    Raises:
        CorpusError: for what is no file of tokens, or has other ids than `vocab_size` allows.
    """
    paths = token_paths(asked, folder)
    layouts = {path: read_layout(path) for each in paths.values() for path in each}
    vocab_size = _vocab_size(asked, layouts)
    total, before = sum(layout.size for layout in layouts.values()), 0
    shards = []
    for split, files in paths.items():
        for path in files:
            data, layout, read = _data(path), layouts[path], partial(_told, watch, before, total)
            shards.append(Shard(split, layout, data, _sha256(data, layout, vocab_size, read)))
            before += layout.size
    _check_distinct(shards)
    told = [f"{shard.split} {shard.sha256}\n" for shard in shards]
    over = "".join([*told, f"vocab_size {vocab_size}\n"])
    return TokenCorpus(
        name=_name(paths["train"]),
        sha256=hashlib.sha256(over.encode()).hexdigest(),
        vocab_size=vocab_size,
        chosen=f"token files {_name([shard.path for shard in shards])}",
        shards=tuple(shards),
        bytes_per_token=_bytes_per_token(asked, shards),
    )


def _check_distinct(shards: Sequence[Shard]) -> None:
    """What is trained on is nowhere evaluated on, nor is it there twice by another name."""
    first: dict[str, Shard] = {}
    for shard in shards:
        other = first.setdefault(shard.sha256, shard)
        if other is not shard:
            raise CorpusError(
                f"{other.path} ({other.split}) and {shard.path} ({shard.split}) hold the same "
                "bytes. Leave one out."
            )


def _told(watch: Watch, before: int, total: int, done: int) -> None:
    watch(before + done, total)


def _vocab_size(asked: TokensAsked, paths: Iterable[Path]) -> int:
    """As the matrix says it, else as a tokens.json does: files of tokens do not tell it."""
    vocab_size = asked.vocab_size or vocab_size_beside(paths)
    if vocab_size is None:
        raise _vocabulary_unknown()
    return vocab_size


def _bytes_per_token(asked: TokensAsked, shards: Sequence[Shard]) -> Mapping[str, float]:
    """By split, where a tokens.json beside its files tells it.

    Raises:
        CorpusError: if a tokens.json is to tell the vocabulary, and does not name all files.
    """
    files: dict[str, list[tuple[Path, str, int]]] = {}
    for shard in shards:
        files.setdefault(shard.split, []).append((shard.path, shard.sha256, shard.layout.count))
    known = known_of(files)
    if asked.vocab_size is None and known.vocab_size is None:
        raise _vocabulary_unknown()
    return known.bytes_per_token


def _vocabulary_unknown() -> CorpusError:
    return CorpusError(
        "data.vocab_size is needed with data.tokens, unless a tokens.json of `tokenise` beside the "
        f"files names all of them. {VOCABULARY}."
    )


def _data(path: Path) -> DataFolder:
    try:
        return read_data(path)
    except CodeError as error:
        raise CorpusError(str(error)) from error


def _sha256(data: DataFolder, layout: Layout, vocab_size: int, read: Callable[[int], None]) -> str:
    """Of a sound file; remembered as long as it is what it was, for the same vocabulary."""
    told = json.dumps([str(data.path.absolute()), data.files, vocab_size])
    return remembered(told, lambda: read_through(data.path, layout, vocab_size, read))


def _name(paths: Sequence[Path]) -> str:
    more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
    return f"{paths[0].name}{more}"
