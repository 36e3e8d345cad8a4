"""Token files of a text: their bytes, where splits are cut, and what is not written over."""

import hashlib
from array import array
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models

from bench.border.options import DataOptions
from bench.errors import CorpusError, FolderError
from bench.records.bpe import Encoding, learned
from bench.records.corpora import Corpus, find_corpus
from bench.records.sidecar import Known, Sidecar, known_of
from bench.records.tokenised_text import splits_of, token_file, write_tokens

TEXT = "the quick brown fox jümps over the lazy dog €\n" * 20
THREE = DataOptions((0.8, 0.1, 0.1))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    return find_corpus(str(tmp_path / "text.txt"))


def write(folder: Path, corpus: Corpus, data: DataOptions, vocab_size: int = 280) -> Sidecar:
    texts = splits_of(corpus, data)
    return write_tokens(folder, corpus, texts, learned(texts["train"], vocab_size))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_token_file_is_256_int32_and_then_uint16_all_little_endian():
    content = token_file(array("H", [1, 0x0203, 65_535]))
    head = np.frombuffer(content[:1024], "<i4")
    assert head[:3].tolist() == [20240520, 1, 3]
    assert not head[3:].any()
    assert content[1024:] == b"\x01\x00\x03\x02\xff\xff"


@pytest.mark.parametrize(
    ("data", "names"),
    [(DataOptions(), ["train", "val"]), (THREE, ["train", "val", "test"])],
)
def test_splits_are_those_of_a_run_on_the_text_itself(corpus, data, names):
    texts = splits_of(corpus, data)
    assert list(texts) == names
    assert "".join(texts.values()) == TEXT
    n_train, end = data.bounds(len(TEXT))
    assert (len(texts["train"]), len(texts["val"])) == (n_train, end - n_train)


def test_what_is_written_gives_the_text_back(corpus, tmp_path):
    sidecar = write(tmp_path / "tokens", corpus, THREE)
    encoding = Encoding("given", (tmp_path / "tokens" / "tokenizer.json").read_bytes(), 280)
    for split, text in splits_of(corpus, THREE).items():
        part = sidecar.splits[split]
        content = (tmp_path / "tokens" / part.file).read_bytes()
        assert part.sha256 == hashlib.sha256(content).hexdigest()
        assert np.frombuffer(content[1024:], "<u2").tolist() == encoding.encode(text).tolist()
        assert (part.bytes, part.characters) == (len(text.encode()), len(text))
        assert part.tokens == len(content[1024:]) // 2
        assert part.bytes_per_token == part.bytes / part.tokens
    assert sidecar.source.bytes == len(TEXT.encode())
    assert (sidecar.source.name, sidecar.source.sha256) == ("text.txt", corpus.sha256)


def test_the_sidecar_tells_of_them_what_was_written(corpus, tmp_path):
    sidecar = write(tmp_path / "tokens", corpus, THREE)
    files = {
        split: [(tmp_path / "tokens" / part.file, part.sha256, part.tokens)]
        for split, part in sidecar.splits.items()
    }
    told = {split: part.bytes_per_token for split, part in sidecar.splits.items()}
    assert known_of(files) == Known(280, told)


def test_merges_are_learned_from_the_training_split_alone(corpus, tmp_path):
    """The tokenizer is the same whatever follows the training split."""
    write(tmp_path / "a", corpus, DataOptions((0.5, 0.5)))
    changed = TEXT[: len(TEXT) // 2] + "another text altogether " * 20
    (tmp_path / "b.txt").write_text(changed[: len(TEXT)], encoding="utf-8")
    write(tmp_path / "b", find_corpus(str(tmp_path / "b.txt")), DataOptions((0.5, 0.5)))
    one, other = contents(tmp_path / "a"), contents(tmp_path / "b")
    alike = {name for name in one if one[name] == other[name]}
    assert alike == {"tokenizer.json", "train.bin"}


def test_to_write_the_same_again_changes_nothing(corpus, tmp_path):
    folder = tmp_path / "deep" / "tokens"
    first = write(folder, corpus, THREE)
    stamps = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert write(folder, corpus, THREE) == first
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


def test_what_was_not_written_to_its_end_is_completed(corpus, tmp_path):
    folder = tmp_path / "tokens"
    write(folder, corpus, THREE)
    whole = contents(folder)
    for name in ("tokens.json", "val.bin"):
        (folder / name).unlink()
    write(folder, corpus, THREE)
    assert contents(folder) == whole


@pytest.mark.parametrize("name", ["val.bin", "tokenizer.json", "tokens.json"])
def test_another_file_of_these_names_is_not_written_over(corpus, tmp_path, name):
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / name).write_text("something of somebody's")
    with pytest.raises(FolderError, match=rf"{name} is another already. Nothing was written"):
        write(folder, corpus, THREE)
    assert contents(folder) == {name: b"something of somebody's"}


def test_a_folder_that_cannot_be_is_told(corpus, tmp_path):
    with pytest.raises(FolderError, match=r"text.txt cannot be written: .*Give another --out"):
        write(tmp_path / "text.txt", corpus, THREE)


def test_a_split_without_a_character_is_refused(tmp_path):
    (tmp_path / "short.txt").write_text("abc")
    with pytest.raises(CorpusError, match="3 characters leave a split without any"):
        splits_of(find_corpus(str(tmp_path / "short.txt")), DataOptions((0.1, 0.9)))


def test_a_split_that_does_not_come_back_is_named_and_nothing_is_written(corpus, tmp_path):
    """A tokenizer that knows the characters of the training split alone."""
    texts = {"train": "abab", "val": "abc"}
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    tokenizer.decoder = decoders.Fuse()
    encoding = Encoding("given", tokenizer.to_str().encode(), 2)
    with pytest.raises(CorpusError, match="does not give split val back: from its character 2 on"):
        write_tokens(tmp_path / "tokens", corpus, texts, encoding)
    assert not (tmp_path / "tokens").exists()
