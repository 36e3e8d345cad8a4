"""Byte-pair encodings: learned as defined, lossless for every text, refused where they are not."""

import json
from pathlib import Path

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from bench.errors import CorpusError, RequestError
from bench.records.bpe import LEAST_COUNT, given, learned
from tests.builders.plain_bpe import plain_merges

TEXT = "the quick brown fox jumps over the lazy dog\n" * 9 + "it's 1999, isn't it?\n" * 3
STEADY = settings(max_examples=100, deadline=None, derandomize=True, database=None)


def saved(place: Path, tokenizer: Tokenizer, **model: object) -> Path:
    """Its tokenizer.json, with other settings of the model."""
    content = json.loads(tokenizer.to_str())
    content["model"] |= model
    file = place / "tokenizer.json"
    file.write_text(json.dumps(content))
    return file


def merges_of(file: bytes) -> list[tuple[str, str]]:
    return [(left, right) for left, right in json.loads(file)["model"]["merges"]]


# --- learned ------------------------------------------------------------------------------------


@pytest.mark.parametrize("vocab_size", [257, 270, 400])
def test_merges_are_those_of_the_definition(vocab_size):
    encoding = learned(TEXT, vocab_size)
    merges = plain_merges(TEXT, vocab_size, LEAST_COUNT)
    assert merges_of(encoding.file) == merges
    assert encoding.vocab_size <= vocab_size


@STEADY
@for_all(st.text(alphabet="ab c'st1.\n", max_size=300))
def test_merges_are_those_of_the_definition_for_any_text(text):
    assert merges_of(learned(text, 300).file) == plain_merges(text, 300, LEAST_COUNT)


ENCODING = learned(TEXT, 290)


@settings(STEADY, max_examples=40)
@for_all(st.text(max_size=200))
def test_every_text_comes_back_whatever_was_learned_from(text):
    ids = ENCODING.encode(text)  # which itself compares what comes back
    assert (ids.typecode, ids.itemsize) == ("H", 2)
    assert all(number < ENCODING.vocab_size for number in ids)
    assert len(ids) <= len(text.encode())


ODD = ["", "\0", "\r\n \t\v  ", "  x", "e\u0301 é \ufeff", "𝄞\u200d€", "\u202etxet", "<|pad|>"]


@pytest.mark.parametrize("text", ODD)
def test_odd_texts_come_back(text):
    assert ENCODING.encode(text) == ENCODING.encode(text)


def test_the_vocabulary_is_all_bytes_and_the_merges():
    content = json.loads(ENCODING.file)
    vocabulary = content["model"]["vocab"]
    assert ENCODING.vocab_size == len(vocabulary) == 290
    assert sorted(vocabulary.values()) == list(range(290))
    assert sorted(token for token in vocabulary if vocabulary[token] < 256) == sorted(
        pre_tokenizers.ByteLevel.alphabet()
    )
    assert content["model"]["continuing_subword_prefix"] is None
    assert content["normalizer"] is None
    assert content["added_tokens"] == []


def test_a_text_in_which_little_repeats_gives_fewer_tokens():
    assert learned("abcdefg", 400).vocab_size == 256
    assert learned("abab", 400).vocab_size == 257


@pytest.mark.parametrize("vocab_size", [-1, 0, 256, 65_537])
def test_a_size_that_cannot_be_is_refused(vocab_size):
    with pytest.raises(RequestError, match=rf"--vocab {vocab_size}: give a number from 257 "):
        learned(TEXT, vocab_size)


# --- given --------------------------------------------------------------------------------------


def test_one_that_was_learned_can_be_given(tmp_path):
    (tmp_path / "t.json").write_bytes(ENCODING.file)
    encoding = given(tmp_path / "t.json")
    assert (encoding.kind, encoding.file) == ("given", ENCODING.file)
    assert encoding.vocab_size == ENCODING.vocab_size
    assert encoding.encode(TEXT) == ENCODING.encode(TEXT)


def test_added_tokens_count_and_are_given_back(tmp_path):
    tokenizer = Tokenizer.from_str(ENCODING.file.decode())
    tokenizer.add_special_tokens(["<|endoftext|>"])
    encoding = given(saved(tmp_path, tokenizer))
    assert encoding.vocab_size == 291
    assert encoding.encode("the<|endoftext|>dog")[1] == 290


def test_no_text_is_cut_or_filled_up(tmp_path):
    tokenizer = Tokenizer.from_str(ENCODING.file.decode())
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=1_000)
    assert given(saved(tmp_path, tokenizer)).encode(TEXT) == ENCODING.encode(TEXT)


def words(*vocabulary: str) -> Tokenizer:
    """Whole words, and [UNK] for all others."""
    numbered = {word: number for number, word in enumerate(("[UNK]", *vocabulary))}
    tokenizer = Tokenizer(models.WordLevel(numbered, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def test_a_text_with_what_is_unknown_is_told(tmp_path):
    encoding = given(saved(tmp_path, words("the", "dog")))
    assert encoding.encode("the dog").tolist() == [1, 2]
    says = r"from its character 4 on, 'cat dog' becomes '\[UNK\] dog'; 1 tokens are unknown to it"
    with pytest.raises(CorpusError, match=says):
        encoding.encode("the cat dog")


def test_a_text_that_loses_characters_is_told(tmp_path):
    """A BPE without an unknown token leaves out what it does not know."""
    encoding = given(saved(tmp_path, Tokenizer(models.BPE({"a": 0, "b": 1}, []))))
    with pytest.raises(CorpusError, match="from its character 1 on, 'ca' becomes"):
        encoding.encode("aca")


def test_a_text_that_is_normalised_is_told(tmp_path):
    tokenizer = Tokenizer.from_str(ENCODING.file.decode())
    tokenizer.normalizer = normalizers.Lowercase()
    encoding = given(saved(tmp_path, tokenizer))
    encoding.encode("the dog")
    with pytest.raises(CorpusError, match="from its character 4 on, 'Dog' becomes 'dog'"):
        encoding.encode("the Dog")


def test_ids_that_change_each_time_are_refused(tmp_path):
    file = saved(tmp_path, Tokenizer.from_str(ENCODING.file.decode()), dropout=0.1)
    with pytest.raises(RequestError, match="leaves out merges at random"):
        given(file)


@pytest.mark.parametrize(("highest", "accepted"), [(65_535, True), (65_536, False)])
def test_ids_must_have_16_bits(tmp_path, highest, accepted):
    file = saved(tmp_path, words(), vocab={"[UNK]": 0, "x": highest})
    if accepted:
        assert given(file).encode("x").tolist() == [highest]
    else:
        with pytest.raises(RequestError, match=r"its ids go up to 65,536, those of a token file"):
            given(file)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "No such file or directory"),
        (b"", "EOF"),
        (b"{}", "Model missing|missing"),
        (b"\xff", "utf-8"),
    ],
)
def test_a_file_that_is_no_tokenizer_is_refused(tmp_path, content, says):
    file = tmp_path / "t.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(RequestError, match=rf"--tokenizer .*t.json: .*({says}).*Give a tokenizer"):
        given(file)
