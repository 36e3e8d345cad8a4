"""What a tokens.json tells of token files: by name and SHA-256 alike, or nothing, or an error."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.errors import CorpusError
from bench.records.sidecar import Known, known_of

Files = Mapping[str, Sequence[tuple[Path, str, int]]]


def sha(digit: str) -> str:
    return digit * 64


def sidecar(folder: Path, tokenizer: str = "f", **parts: tuple[str, int, int]) -> dict[str, Any]:
    """A tokens.json as it is written: split -> (digit of its SHA-256, tokens, bytes)."""
    splits = {
        split: {"file": f"{split}.bin", "sha256": sha(digit), "tokens": tokens, "bytes": n_bytes}
        for split, (digit, tokens, n_bytes) in parts.items()
    }
    content = {
        "schema_version": 1,
        "vocab_size": 300,
        "tokenizer": {
            "kind": "learned",
            "file": "tokenizer.json",
            "sha256": sha(tokenizer),
            "library": "tokenizers 0.23.3",
        },
        "source": {
            "name": "text",
            "sha256": sha("e"),
            "bytes": sum(n_bytes for _, _, n_bytes in parts.values()),
            "characters": 7 * len(parts),
        },
        "splits": {split: {**part, "characters": 7} for split, part in splits.items()},
    }
    folder.mkdir(exist_ok=True)
    (folder / "tokens.json").write_text(json.dumps(content))
    return content


TOKENS = {"1": 100, "2": 10, "3": 300, "9": 10}


def files(folder: Path, **digits: str) -> Files:
    """Split -> its file, by a digit of its SHA-256, with as many tokens as the tests have them."""
    return {
        split: [(folder / f"{split}.bin", sha(digit), TOKENS[digit])]
        for split, digit in digits.items()
    }


@pytest.fixture
def place(tmp_path: Path) -> Path:
    sidecar(tmp_path, train=("1", 100, 400), val=("2", 10, 35))
    return tmp_path


def test_files_that_are_named_are_known(place):
    assert known_of(files(place, train="1", val="2")) == Known(300, {"train": 4.0, "val": 3.5})


def test_without_a_sidecar_nothing_is_known(tmp_path):
    assert known_of(files(tmp_path, train="1", val="2")) == Known(None, {})


def test_a_file_may_serve_another_split(place):
    assert known_of({"test": [(place / "val.bin", sha("2"), 10)]}) == Known(300, {"test": 3.5})


def test_of_a_split_with_a_file_that_is_not_named_nothing_is_known(place):
    """Nor is the vocabulary: the other file may hold any id."""
    asked = {**files(place, train="1", val="2")}
    asked["train"] = [*asked["train"], (place / "more.bin", sha("3"), 300)]
    assert known_of(asked) == Known(None, {"val": 3.5})


def test_several_files_of_a_split_are_taken_together(place, tmp_path):
    other = tmp_path / "other"
    sidecar(other, train=("3", 300, 800))
    asked = {"train": [(place / "train.bin", sha("1"), 100), (other / "train.bin", sha("3"), 300)]}
    assert known_of(asked) == Known(300, {"train": 3.0})


def test_files_of_two_tokenizers_are_refused(place, tmp_path):
    other = tmp_path / "other"
    sidecar(other, tokenizer="0", val=("3", 300, 800))
    asked = {**files(place, train="1"), **files(other, val="3")}
    with pytest.raises(CorpusError, match=r"train.bin and .*other/val.bin are of two tokenizers"):
        known_of(asked)


def test_a_file_that_was_changed_is_told_with_both_hashes(place):
    says = f"val.bin: its SHA-256 is {sha('9')}, and .*tokens.json has {sha('2')}"
    with pytest.raises(CorpusError, match=says):
        known_of(files(place, train="1", val="9"))


def changed(content: dict[str, Any], *keys: str, to: Any) -> str:
    """The JSON with one value changed, or without its key."""
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = to
    if to is None:
        del inner[keys[-1]]
    return json.dumps(content)


@pytest.mark.parametrize(
    ("keys", "to", "says"),
    [
        (("schema_version",), 2, "schema_version: Input should be 1"),
        (("vocab_size",), None, "vocab_size: Field required"),
        (("vocab_size",), 0, "vocab_size: "),
        (("vocab_size",), 65_537, "vocab_size: "),
        (("vocab_size",), "300", "vocab_size: "),
        (("splits", "val", "tokens"), 0, "splits.val.tokens: "),
        (("splits", "val", "bytes"), 1.5, "splits.val.bytes: "),
        (("splits", "val", "sha256"), "2", "splits.val.sha256: "),
        (("splits", "valid"), {}, "splits.valid"),
        (("tokenizer", "kind"), "found", "tokenizer.kind: "),
        (("more",), 1, "more: Extra inputs are not permitted"),
    ],
)
def test_a_sidecar_that_is_another_thing_is_told_with_its_key(tmp_path, keys, to, says):
    content = sidecar(tmp_path, train=("1", 100, 400), val=("2", 10, 35))
    (tmp_path / "tokens.json").write_text(changed(content, *keys, to=to))
    with pytest.raises(CorpusError, match=rf"tokens.json: {says}.*Tokenise the text again"):
        known_of(files(tmp_path, train="1"))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000])
def test_a_damaged_sidecar_is_told(tmp_path, content):
    (tmp_path / "tokens.json").write_bytes(content)
    with pytest.raises(CorpusError, match=r"tokens.json: .*Tokenise the text again, or remove"):
        known_of(files(tmp_path, train="1"))


def test_a_sidecar_that_cannot_be_read_is_told(tmp_path):
    (tmp_path / "tokens.json").mkdir()
    with pytest.raises(CorpusError, match=r"tokens.json: Is a directory"):
        known_of(files(tmp_path, train="1"))


def test_counts_that_are_not_the_files_are_refused(place):
    asked = {"val": [(place / "val.bin", sha("2"), 11)]}
    with pytest.raises(CorpusError, match=r"says that val.bin has 10 tokens, and it has 11"):
        known_of(asked)


def test_splits_that_are_not_the_text_are_refused(place):
    content = json.loads((place / "tokens.json").read_text())
    content["splits"]["val"]["bytes"] = 10**12
    (place / "tokens.json").write_text(json.dumps(content))
    with pytest.raises(CorpusError, match="bytes, the text has another number"):
        known_of(files(place, val="2"))
