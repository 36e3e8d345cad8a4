"""tokens.json, which `tokenise` writes beside token files: what the ids in them stand for."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from bench.errors import CorpusError

NAME = "tokens.json"
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Field(gt=0)]
Split = Literal["train", "val", "test"]


class _OfSidecar(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TokenizerFile(_OfSidecar):
    """By what the text was tokenised."""

    kind: Literal["learned", "given"]  # learned: from the training split
    file: str
    sha256: Sha256
    library: str  # and its version


class TokenisedText(_OfSidecar):
    """The text, before it was divided."""

    name: str
    sha256: Sha256
    bytes: Count
    characters: Count


class TokenisedSplit(_OfSidecar):
    """A token file; `bytes` of UTF-8 and `characters` are what its tokens stand for."""

    file: str
    sha256: Sha256
    tokens: Count
    bytes: Count
    characters: Count

    @property
    def bytes_per_token(self) -> float:
        return self.bytes / self.tokens


class Sidecar(_OfSidecar):
    """All of a tokens.json."""

    schema_version: Literal[1] = 1
    vocab_size: Annotated[int, Field(ge=1, le=65_536)]
    tokenizer: TokenizerFile
    source: TokenisedText
    splits: dict[Split, TokenisedSplit]

    @model_validator(mode="after")
    def _adds_up(self) -> "Sidecar":
        for unit in ("bytes", "characters"):
            total = sum(getattr(part, unit) for part in self.splits.values())
            if total != getattr(self.source, unit):
                raise ValueError(f"the splits have {total:,} {unit}, the text has another number")
        return self


@dataclass(frozen=True)
class Known:
    """What is known of token files that a matrix names."""

    vocab_size: int | None  # None: of one file or another it is not known
    bytes_per_token: Mapping[str, float]  # by split: of those alone whose every file is known


def vocab_size_beside(paths: Iterable[Path]) -> int | None:
    """What the tokens.json beside all of these files say alike; whether they fit, `known_of` tells.

    Raises:
        CorpusError: if one cannot be read.
    """
    sidecars = {folder: _read(folder / NAME) for folder in {path.parent for path in paths}}
    _check_one_tokenizer({folder: each for folder, each in sidecars.items() if each})
    sizes = {sidecar.vocab_size if sidecar else None for sidecar in sidecars.values()}
    return sizes.pop() if len(sizes) == 1 else None


def known_of(files: Mapping[str, Sequence[tuple[Path, str, int]]]) -> Known:
    """What the tokens.json beside token files tell of them, by name and SHA-256 alike.

    `files`: split -> its files, each with its SHA-256 and how many tokens it has. Files of a folder
    without a tokens.json, and those that it does not name, are not known.

    Raises:
        CorpusError: if a tokens.json cannot be read or names another SHA-256, or if files are of
            several tokenizers.
    """
    folders = {path.parent for parts in files.values() for path, *_ in parts}
    sidecars = {folder: _read(folder / NAME) for folder in folders}
    found = {
        split: [_known_file(sidecars[each[0].parent], *each) for each in parts]
        for split, parts in files.items()
    }
    known = [each for parts in found.values() for each in parts if each]
    _check_one_tokenizer({each.path: each.sidecar for each in known})
    n_files = sum(map(len, files.values()))
    return Known(
        vocab_size=known[0].sidecar.vocab_size if 0 < len(known) == n_files else None,
        bytes_per_token={
            split: sum(part.bytes for part in whole) / sum(part.tokens for part in whole)
            for split, parts in found.items()
            if (whole := [each.part for each in parts if each]) and len(whole) == len(parts)
        },
    )


@dataclass(frozen=True)
class _KnownFile:
    path: Path
    sidecar: Sidecar
    part: TokenisedSplit


def _known_file(sidecar: Sidecar | None, path: Path, sha256: str, tokens: int) -> _KnownFile | None:
    """What a tokens.json has of a file; None where it does not name it."""
    if sidecar is None:
        return None
    part = next((part for part in sidecar.splits.values() if part.file == path.name), None)
    if part is None:
        return None
    if part.sha256 != sha256:
        raise CorpusError(
            f"{path}: its SHA-256 is {sha256}, and {path.with_name(NAME)} has {part.sha256}: the "
            "one was changed without the other. Tokenise the text again, or remove the JSON: then "
            "bytes a token are not known."
        )
    if part.tokens != tokens:
        raise CorpusError(
            f"{path.with_name(NAME)}: it says that {path.name} has {part.tokens:,} tokens, and it "
            f"has {tokens:,}. Tokenise the text again, or remove the JSON."
        )
    return _KnownFile(path, sidecar, part)


def _check_one_tokenizer(sidecars: Mapping[Path, Sidecar]) -> None:
    """`sidecars`: of files, or of folders of files."""
    for (first, one), (other, two) in pairwise(sidecars.items()):
        if one.tokenizer.sha256 != two.tokenizer.sha256:
            hashes = " and ".join(f"{each.tokenizer.sha256[:12]}…" for each in (one, two))
            raise CorpusError(
                f"{first} and {other} are of two tokenizers, {hashes} (SHA-256, by {NAME}): the "
                "same id stands for other text. Tokenise all of it by one: --tokenizer FILE."
            )


def _read(path: Path) -> Sidecar | None:
    """None where there is none."""
    try:
        return Sidecar.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        told = "; ".join(_told(error)) if isinstance(error, ValidationError) else error.strerror
        raise CorpusError(
            f"{path}: {told}. Tokenise the text again, or remove this file: then bytes a token are "
            "not known."
        ) from error


def _told(error: ValidationError) -> Iterator[str]:
    for each in error.errors(include_url=False):
        where = ".".join(map(str, each["loc"]))
        yield f"{where}: {each['msg']}" if where else each["msg"]
