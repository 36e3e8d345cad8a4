"""A text -> token files, one a split, with the tokenizer and tokens.json beside them."""

import hashlib
import sys
from array import array
from collections.abc import Mapping
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.border.options import DataOptions
from bench.errors import CorpusError, FolderError
from bench.records.bpe import LIBRARY, Encoding
from bench.records.corpora import Corpus
from bench.records.shards import HEADER, MAGIC, VERSION
from bench.records.sidecar import (
    NAME,
    Sidecar,
    TokenisedSplit,
    TokenisedText,
    TokenizerFile,
)

SPLITS = ("train", "val", "test")
TOKENIZER = "tokenizer.json"


def splits_of(corpus: Corpus, data: DataOptions) -> dict[str, str]:
    """Its text, divided at the characters at which a run on the text itself divides it.

    Raises:
        CorpusError: if the text cannot be had, or a split would be empty.
    """
    text = corpus.store().read_bytes().decode("utf-8")
    n_train, end = data.bounds(len(text))
    parts = (text[:n_train], text[n_train:end], text[end:])[: len(data.shares)]
    if not all(parts):
        raise CorpusError(
            f"corpus {corpus.name}: {len(text):,} characters leave a split without any. Use a "
            "longer text, or larger shares (--split)."
        )
    return dict(zip(SPLITS, parts, strict=False))


def write_tokens(
    folder: Path, corpus: Corpus, texts: Mapping[str, str], encoding: Encoding
) -> Sidecar:
    """All files of a tokenised text, tokens.json last; what is there already must be the same.

    `texts`: of `splits_of`; each is tokenised by itself, so that no token reaches into the next.

    Raises:
        CorpusError: if the ids do not give a text back.
        FolderError: if the folder holds other files of these names, or cannot be written.
    """
    splits, files = {}, {}
    for split, text in texts.items():
        name, ids = f"{split}.bin", encoding.encode(text, f"split {split}")
        files[name] = token_file(ids)
        splits[split] = TokenisedSplit(
            file=name,
            sha256=_sha256(files[name]),
            tokens=len(ids),
            bytes=len(text.encode("utf-8")),
            characters=len(text),
        )
    sidecar = Sidecar.model_validate(
        {
            "vocab_size": encoding.vocab_size,
            "tokenizer": TokenizerFile(
                kind=encoding.kind,
                file=TOKENIZER,
                sha256=_sha256(encoding.file),
                library=LIBRARY,
            ),
            "source": TokenisedText(
                name=corpus.name,
                sha256=corpus.sha256,
                bytes=sum(part.bytes for part in splits.values()),
                characters=sum(part.characters for part in splits.values()),
            ),
            "splits": splits,
        }
    )
    told = sidecar.model_dump_json(indent=2) + "\n"
    _put(folder, {**files, TOKENIZER: encoding.file, NAME: told.encode("utf-8")})
    return sidecar


def token_file(ids: "array[int]") -> bytes:
    """The bytes of a shard as bench/records/shards.py reads it. `ids`: of 16 bits each."""
    head = array("i", [MAGIC, VERSION, len(ids), *[0] * (HEADER // 4 - 3)])
    body = ids
    if sys.byteorder == "big":
        body = array("H", ids)
        head.byteswap()
        body.byteswap()
    return head.tobytes() + body.tobytes()


def _put(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write those that are not there yet, in their order, if all others are as they should be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        there = {name: _content(folder / name) for name in files}
        for name, content in files.items():
            if there[name] not in (None, content):
                raise FolderError(
                    f"{folder / name} is another already. Nothing was written. Give another --out, "
                    "or remove it."
                )
        for name, content in files.items():
            if there[name] is None:
                write_atomically(folder / name, content)
    except OSError as error:
        raise FolderError(
            f"{folder} cannot be written: {error.strerror}. Give another --out."
        ) from error


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
