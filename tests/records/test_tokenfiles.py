"""Token files that a matrix names: which they are, who they are, and that they stay so."""

import hashlib
import os
import re
from pathlib import Path

import pytest

from bench.border.options import DataOptions
from bench.errors import CorpusError
from bench.records import tokenfiles
from bench.records.tokenfiles import TokenCorpus, TokensAsked, find_tokens, token_paths
from tests.builders.tokenfiles import little, npy, shard

TRAIN, MORE, VAL = [1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11], [12, 13, 14, 15]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files to train on, one to validate."""
    folder = tmp_path / "tokens"
    folder.mkdir()
    (folder / "train_2.bin").write_bytes(little(MORE))
    (folder / "train_1.bin").write_bytes(shard(TRAIN))
    (folder / "val.npy").write_bytes(npy(VAL))
    return folder


def asked(
    train: tuple[str, ...] = ("train_*.bin",), vocab_size: int | None = 100, **more: tuple[str, ...]
) -> TokensAsked:
    return TokensAsked({"train": train, "val": ("val.npy",), **more}, vocab_size)


def find(folder: Path, given: TokensAsked | None = None) -> TokenCorpus:
    return find_tokens(given or asked(), folder)


def refused(folder: Path, given: TokensAsked) -> str:
    with pytest.raises(CorpusError) as caught:
        find(folder, given)
    return str(caught.value)


# --- Which files --------------------------------------------------------------------------------


def test_files_of_a_pattern_are_sorted_by_name(folder: Path) -> None:
    assert token_paths(asked(), folder) == {
        "train": [folder / "train_1.bin", folder / "train_2.bin"],
        "val": [folder / "val.npy"],
    }


def test_files_that_are_named_keep_their_order(folder: Path) -> None:
    given = asked(("train_2.bin", "train_1.bin"))
    assert [path.name for path in token_paths(given, folder)["train"]] == [*given.splits["train"]]


@pytest.mark.parametrize("pattern", ["train_?.bin", "train_[12].bin", "tr*", "../tokens/train_*"])
def test_every_kind_of_pattern_fits(folder: Path, pattern: str) -> None:
    assert len(token_paths(asked((pattern,)), folder)["train"]) == 2


def test_a_name_with_brackets_is_taken_as_it_is(folder: Path) -> None:
    (folder / "a[1].bin").write_bytes(little(TRAIN))
    assert token_paths(asked(("a[1].bin",)), folder)["train"] == [folder / "a[1].bin"]
    inner = folder / "in [x]"
    inner.mkdir()
    (inner / "b.bin").write_bytes(little(MORE))
    (inner / "val.npy").write_bytes(npy(VAL))
    assert token_paths(asked(("*.bin",)), inner)["train"] == [inner / "b.bin"]


def test_the_home_folder_and_absolute_paths_are_found(folder: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(folder))
    train = ("~/train_1.bin", str(folder / "train_2*"))
    found = token_paths(TokensAsked({"train": train}, 100), Path("/nowhere"))
    assert found["train"] == [folder / "train_1.bin", folder / "train_2.bin"]


def test_what_nothing_fits_is_refused(folder: Path) -> None:
    said = refused(folder, asked(("fineweb_*.bin",)))
    assert said.startswith(f"fineweb_*.bin: no file fits it (looked for it from {folder}).")
    assert refused(folder, asked(("gone.bin",))).startswith("gone.bin: it is not there (looked")


def test_a_file_twice_is_refused_also_by_another_name(folder: Path) -> None:
    said = refused(folder, asked(("train_*.bin", "train_1.bin")))
    assert said == f"{folder}/train_1.bin is given twice, in train. Leave one out."
    (folder / "linked.npy").symlink_to("val.npy")
    said = refused(folder, asked(test=("linked.npy",)))
    assert said == f"{folder}/linked.npy is given twice, in val and in test. Leave one out."


def test_a_missing_vocabulary_says_that_no_pickle_is_read(folder: Path) -> None:
    said = refused(folder, asked(vocab_size=None))
    assert re.match(r"data\.vocab_size is needed .* meta\.pkl .* never loaded; write its", said)


def test_an_id_beyond_the_vocabulary_is_told_with_file_and_byte(folder: Path) -> None:
    said = refused(folder, asked(vocab_size=15))
    assert said.startswith(
        f"{folder}/val.npy, byte {128 + 2 * 3}: token id 15, and data.vocab_size"
    )


# --- Who they are -------------------------------------------------------------------------------


def test_the_hash_is_over_splits_files_and_vocabulary(folder: Path) -> None:
    corpus = find(folder)
    files = [("train", shard(TRAIN)), ("train", little(MORE)), ("val", npy(VAL))]
    told = [f"{split} {hashlib.sha256(content).hexdigest()}\n" for split, content in files]
    over = "".join([*told, "vocab_size 100\n"])
    assert corpus.sha256 == hashlib.sha256(over.encode()).hexdigest()


def test_what_decides_a_loss_decides_the_hash_and_nothing_else(folder: Path) -> None:
    first = find(folder).sha256
    others = [
        find(folder, asked(vocab_size=101)),
        find(folder, asked(("train_2.bin", "train_1.bin"))),
        find(folder, asked(("train_1.bin",))),
        find(folder, TokensAsked({"train": ("train_1.bin",), "val": ("train_2.bin",)}, 100)),
        find(folder, asked(("train_1.bin",), test=("train_2.bin",))),
    ]
    assert len({first, *(each.sha256 for each in others)}) == 1 + len(others)
    (folder / "train_1.bin").rename(folder / "a")
    (folder / "train_2.bin").rename(folder / "b.bin")
    (folder / "val.npy").rename(folder / "c.bin")
    moved = TokensAsked({"train": ("a", "b.bin"), "val": ("c.bin",)}, 100)
    assert find(folder, moved).sha256 == first


def test_a_cell_is_told_where_tokens_begin_and_how_many_they_are(folder: Path) -> None:
    corpus = find(folder)
    tokens = corpus.ref.tokens
    assert tokens is not None
    assert tokens.vocab_size == 100
    told = [(each.split, each.offset, each.count) for each in tokens.files]
    assert told == [("train", 1024, 6), ("train", 0, 5), ("val", 128, 4)]
    assert tokens.files[0].header_sha256 == hashlib.sha256(shard(TRAIN)[:1024]).hexdigest()
    assert [path.name for path in corpus.for_cells()] == ["train_1.bin", "train_2.bin", "val.npy"]


def test_its_name_is_short_and_its_size_is_told(folder: Path) -> None:
    corpus = find(folder)
    assert (corpus.name, corpus.ref.name) == ("train_1.bin and 1 more",) * 2
    assert corpus.size == "15 tokens in 3 files (train 11, val 4), 100 ids"
    assert corpus.lengths(DataOptions()) == {"train": 11, "val": 4}


def test_each_file_must_hold_a_block_and_its_next_token(folder: Path) -> None:
    find(folder).check(3, DataOptions())
    with pytest.raises(CorpusError) as caught:
        find(folder).check(4, DataOptions())
    said = f"{folder}/val.npy, byte {128 + 8}: the file ends here, after 4 tokens."
    assert str(caught.value).startswith(said)
    assert "A block of 4 and its next token need 5" in str(caught.value)


# --- That they stay so --------------------------------------------------------------------------


def test_files_are_read_once_and_their_hashes_are_remembered(folder: Path, monkeypatch) -> None:
    read: list[str] = []
    plain = tokenfiles.read_through

    def reading(path, *others):
        read.append(path.name)
        return plain(path, *others)

    monkeypatch.setattr(tokenfiles, "read_through", reading)
    first = find(folder)
    assert read == ["train_1.bin", "train_2.bin", "val.npy"]
    assert find(folder) == first
    assert len(read) == 3
    find(folder, asked(vocab_size=50))  # other ids may be beyond it
    assert len(read) == 6
    (folder / "val.npy").write_bytes(npy(VAL[::-1]))
    assert find(folder).sha256 != first.sha256
    assert read[6:] == ["val.npy"]


def test_progress_is_told_over_all_files(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    find_tokens(asked(), folder, lambda done, total: told.append((done, total)))
    total = sum((folder / name).stat().st_size for name in os.listdir(folder))
    assert told == sorted(told)
    assert told[-1] == (total, total)
    told.clear()
    find_tokens(asked(), folder, lambda done, total: told.append((done, total)))
    assert told == []  # nothing was read


def test_a_file_that_changed_is_told_before_a_cell_reads_it(folder: Path) -> None:
    corpus = find(folder)
    files = corpus.for_cells()
    corpus.check_unchanged(files)
    os.utime(files[0])  # touched, and still the same
    corpus.check_unchanged(files)
    files[1].write_bytes(little(MORE[::-1]))
    with pytest.raises(CorpusError, match=r"train_2\.bin changed while cells ran.*Run again"):
        corpus.check_unchanged(files)
    files[1].unlink()
    with pytest.raises(CorpusError, match=r"train_2\.bin is not there"):
        corpus.check_unchanged(files)


def test_a_copy_is_told_wherever_it_is(folder: Path) -> None:
    """What is trained on must not be evaluated on, whatever it is called."""
    (folder / "val.npy").unlink()
    (folder / "copy.bin").write_bytes((folder / "train_1.bin").read_bytes())
    given = TokensAsked({"train": ["train_1.bin"], "val": ["copy.bin"]}, 50_257)
    with pytest.raises(CorpusError, match=r"train_1.bin \(train\) and .*copy.bin \(val\) hold the"):
        find_tokens(given, folder)
