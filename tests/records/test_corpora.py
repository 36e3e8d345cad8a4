"""A matrix names a text; its cells read one file that is known by content."""

import hashlib
import http.client
import io
import re
import urllib.error
import urllib.request
from array import array
from itertools import pairwise
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bench.border.options import DataOptions
from bench.errors import CacheError, CorpusError
from bench.records import corpora
from bench.records.cache import cache_folder, check_stored
from bench.records.corpora import TINYSHAKESPEARE_SHA256, Corpus, find_corpus

TEXT = "the quick brown fox jumps over the lazy dog\n" * 20


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, a cache beside it, and no network."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    answer_with(monkeypatch, AssertionError("nothing is fetched here"))
    return folder


def answer_with(monkeypatch: pytest.MonkeyPatch, answer: bytes | BaseException) -> list[str]:
    """Let urlopen give these bytes or raise this error; the addresses it was asked for."""
    asked = []

    def urlopen(url: str, timeout: float) -> Any:
        asked.append(url)
        assert 0 < timeout <= 60
        if isinstance(answer, BaseException):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return asked


def sha256(text: str | bytes) -> str:
    content = text.encode() if isinstance(text, str) else text
    return hashlib.sha256(content).hexdigest()


# --- Which text ---------------------------------------------------------------------------------


def test_by_default_it_is_input_txt_where_one_is(here):
    (here / "input.txt").write_text(TEXT)
    corpus = find_corpus(None)
    assert (corpus.name, corpus.sha256) == ("input.txt", sha256(TEXT))
    assert (corpus.n_chars, corpus.vocab_size) == (len(TEXT), len(set(TEXT)))
    assert corpus.chosen == "input.txt, found in this folder"


def test_by_default_it_is_pythons_manual_where_no_input_txt_is(here):
    (here / "input.txt").mkdir()  # a folder of that name is none
    corpus = find_corpus(None)
    assert corpus.name == "pydoc"
    assert corpus.n_chars > 100_000
    assert "no input.txt in this folder" in corpus.chosen
    assert corpus.ref == find_corpus("pydoc").ref


def test_pythons_manual_is_all_its_topics_in_order():
    text = find_corpus("pydoc").load().decode()
    assert text == "\n\n".join(text for _, text in sorted(topics.items()))


def test_a_relative_path_starts_at_the_folder_that_is_named(here, tmp_path):
    (here / "texts").mkdir()
    (here / "texts" / "mine.txt").write_text(TEXT)
    corpus = find_corpus("texts/mine.txt")
    assert (corpus.name, corpus.chosen) == ("mine.txt", "texts/mine.txt")
    assert corpus.ref == find_corpus(str(here / "texts" / "mine.txt"), tmp_path).ref
    for asked, folder in (("mine.txt", Path("texts")), ("../here/texts/mine.txt", here)):
        assert find_corpus(asked, folder).ref == corpus.ref


def test_a_tilde_in_front_is_the_home_folder_and_elsewhere_a_name(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for folder, text in ((tmp_path / "home", TEXT), (here / "~", TEXT[1:])):
        folder.mkdir()
        (folder / "mine.txt").write_text(text)
    assert find_corpus("~/mine.txt", here).sha256 == sha256(TEXT)
    assert find_corpus("./~/mine.txt", here).sha256 == sha256(TEXT[1:])


def test_characters_are_counted_and_not_bytes(here):
    (here / "input.txt").write_bytes("äöü€𝄞\r\nä".encode())
    corpus = find_corpus(None)
    assert (corpus.n_chars, corpus.vocab_size) == (8, 7)


def test_a_text_keeps_its_identity_wherever_it_lies(here):
    (here / "a.txt").write_text(TEXT)
    (here / "b.txt").write_text(TEXT)
    assert find_corpus("a.txt").sha256 == find_corpus("b.txt").sha256 == sha256(TEXT)


# --- Texts that cannot be used ------------------------------------------------------------------


def test_a_missing_file_is_named_with_the_folder_and_what_else_there_is(here):
    says = f"corpus absent.txt: No such file or directory (looked for it from {here}). "
    with pytest.raises(CorpusError, match=re.escape(says) + ".*pydoc, tinyshakespeare"):
        find_corpus("absent.txt")


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_file_that_is_in_the_current_folder_alone_is_refused_with_what_to_write(
    here, tmp_path, through_a_link
):
    """Nothing falls back to it, and what the message says to write is found."""
    (here / "mine.txt").write_text(TEXT)
    folder = tmp_path / "matrices" / "deep"
    folder.mkdir(parents=True)
    if through_a_link:
        (tmp_path / "link").symlink_to(folder)
        folder = tmp_path / "link"
    says = f"(looked for it from {folder}). A relative path in a matrix starts at the matrix file."
    with pytest.raises(CorpusError, match=re.escape(says)) as caught:
        find_corpus("mine.txt", folder)
    write = str(caught.value).rpartition("write ")[2].removesuffix(".")
    assert write == "../../here/mine.txt"
    assert find_corpus(write, folder).sha256 == sha256(TEXT)


def test_a_folder_is_no_text(here):
    with pytest.raises(CorpusError, match="Is a directory"):
        find_corpus(str(here))


def test_a_path_that_no_file_can_have_is_refused():
    with pytest.raises(CorpusError):
        find_corpus("a\0b")


def test_an_empty_file_is_refused(here):
    (here / "input.txt").write_text("")
    with pytest.raises(CorpusError, match=r"corpus input.txt: the file is empty"):
        find_corpus(None)


def test_a_file_that_is_not_utf_8_is_refused_with_the_place(here):
    (here / "input.txt").write_bytes("grün\n".encode() * 3 + "grün".encode("latin-1"))
    says = r"input.txt: not UTF-8, byte 20 is 0xfc. Convert it to UTF-8 first."
    with pytest.raises(CorpusError, match=says):
        find_corpus(None)


@pytest.mark.parametrize(("distinct", "accepted"), [(65_536, True), (65_537, False)])
def test_more_distinct_characters_than_the_vocabulary_holds_are_refused(here, distinct, accepted):
    characters = "".join(map(chr, range(0x10000, 0x10000 + distinct)))
    (here / "input.txt").write_text(characters)
    if accepted:
        assert find_corpus(None).vocab_size == distinct
    else:
        with pytest.raises(CorpusError, match=r"65,537 distinct characters; at most 65,536"):
            find_corpus(None)


def test_each_split_needs_a_block_and_the_character_after_it():
    """As the worker splits it: int(0.9 N) characters train, the rest validate."""
    for n_chars in range(1, 120):
        corpus = Corpus("text", "0" * 64, n_chars, 3, "text", lambda: b"")
        n_train = int(0.9 * n_chars)
        for block_size in range(1, 15):
            if min(n_train, n_chars - n_train) >= block_size + 1:
                corpus.check(block_size, DataOptions())
            else:
                with pytest.raises(CorpusError):
                    corpus.check(block_size, DataOptions())


def test_a_text_that_is_too_short_is_told_how_long_it_must_be():
    corpus = Corpus("text", "0" * 64, 300, 3, "text", lambda: b"")
    says = r"corpus text: 300 characters leave a split of 30, shorter than one block of 32 .* 321 "
    with pytest.raises(CorpusError, match=says + r"characters or a smaller train.block_size"):
        corpus.check(32, DataOptions())
    Corpus("text", "0" * 64, 321, 3, "text", lambda: b"").check(32, DataOptions())


def of_length(n_chars: int) -> Corpus:
    return Corpus("text", "0" * 64, n_chars, 3, "text", lambda: b"")


def shares() -> st.SearchStrategy[tuple[float, ...]]:
    """Two or three that sum to 1, as a person writes them: in hundredths."""
    hundredths = st.lists(st.integers(1, 99), min_size=1, max_size=2, unique=True).map(sorted)
    return hundredths.map(lambda ends: tuple((b - a) / 100 for a, b in pairwise([0, *ends, 100])))


@pytest.mark.parametrize("examples", [100, pytest.param(5_000, marks=pytest.mark.slow)])
def test_a_text_of_the_length_that_is_asked_for_is_taken_and_a_shorter_one_is_not(examples):
    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(split=shares(), block_size=st.integers(1, 300), n_chars=st.integers(1, 3_000))
    @example(split=(0.3, 0.05, 0.65), block_size=8, n_chars=100)
    @example(split=(0.3, 0.05, 0.65), block_size=8, n_chars=180)
    def check(split: tuple[float, ...], block_size: int, n_chars: int) -> None:
        data = DataOptions(split)
        try:
            of_length(n_chars).check(block_size, data)
        except CorpusError as error:
            follow(str(error), block_size, data)

    def follow(said: str, block_size: int, data: DataOptions) -> None:
        needed = int(re.search(r"at least ([\d,]+) characters", said)[1].replace(",", ""))
        for longer in range(200):
            of_length(needed + longer).check(block_size, data)
        with pytest.raises(CorpusError):
            of_length(needed - 1).check(block_size, data)
        if smaller := re.search(r"([\d,]+) characters leave .* of at most ([\d,]+)\.", said):
            n_chars, most = (int(each.replace(",", "")) for each in smaller.groups())
            of_length(n_chars).check(most, data)

    check()


def test_a_text_without_room_for_any_block_is_not_told_to_take_a_smaller_one():
    with pytest.raises(CorpusError, match=r"Use a text of at least 31 characters\."):
        of_length(10).check(3, DataOptions())


# --- The cache ----------------------------------------------------------------------------------


def test_the_cache_holds_the_text_under_its_hash_and_nothing_else(here, tmp_path):
    (here / "input.txt").write_bytes(b"caf\xc3\xa9\r\n")
    path = find_corpus(None).store()
    assert path == tmp_path / "cache" / "corpora" / f"{sha256(path.read_bytes())}.txt"
    assert path.read_bytes() == b"caf\xc3\xa9\r\n"
    assert path.stat().st_mode & 0o777 == 0o644  # a container reads it as another user
    assert list(path.parent.iterdir()) == [path]


def test_a_cached_text_is_used_again_without_writing(here):
    (here / "input.txt").write_text(TEXT)
    path = find_corpus(None).store()
    before = path.stat()
    again = find_corpus(None).store()
    assert again == path
    assert (again.stat().st_ino, again.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b"other", TEXT.encode()[:-1]])
def test_a_damaged_cached_text_is_written_again(here, damage):
    (here / "input.txt").write_text(TEXT)
    path = find_corpus(None).store()
    path.write_bytes(damage)
    assert find_corpus(None).store() == path
    assert path.read_text() == TEXT


def test_a_cell_reads_the_text_as_it_was_when_it_was_found(here):
    (here / "input.txt").write_text(TEXT)
    corpus = find_corpus(None)
    (here / "input.txt").write_text("changed meanwhile")
    assert corpus.store().read_text() == TEXT


def test_two_texts_lie_side_by_side(here):
    (here / "a.txt").write_text(TEXT)
    (here / "b.txt").write_text(TEXT * 2)
    paths = {find_corpus(name).store() for name in ("a.txt", "b.txt")}
    assert {path.read_text() for path in paths} == {TEXT, TEXT * 2}


def test_a_cache_that_cannot_be_written_names_the_remedy(here, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    (here / "input.txt").write_text(TEXT)
    with pytest.raises(CacheError, match=r"cannot be written: .* Set BENCH_CACHE to a folder"):
        find_corpus(None).store()


def test_the_cache_is_the_users_own_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.delenv("BENCH_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "bench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "bench"


def test_a_relative_cache_is_one_folder_wherever_it_is_asked_for(here, monkeypatch):
    monkeypatch.setenv("BENCH_CACHE", "near")
    assert cache_folder() == here / "near"


# --- Tokens -------------------------------------------------------------------------------------


def test_tokens_lie_beside_the_text_named_by_their_own_hash(here, tmp_path):
    (here / "input.txt").write_text("banana")
    path = find_corpus(None).store_tokens()
    content = array("i", [3, *b"abn", 1, 0, 2, 0, 2, 0]).tobytes()
    assert path.read_bytes() == content
    assert path == tmp_path / "cache" / "corpora" / f"{hashlib.sha256(content).hexdigest()}.tokens"
    assert path.stat().st_mode & 0o777 == 0o644  # a container maps it as another user
    assert {file.suffix for file in path.parent.iterdir()} == {".txt", ".tokens"}


def test_stored_tokens_are_used_again_without_writing(here):
    (here / "input.txt").write_text(TEXT)
    before = find_corpus(None).store_tokens().stat()
    again = find_corpus(None).store_tokens().stat()
    assert (again.st_ino, again.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


@pytest.mark.parametrize("damage", [b"", b"other", bytes(4)])
def test_damaged_tokens_are_refused_before_a_cell_and_written_again_by_a_run(here, damage):
    (here / "input.txt").write_text(TEXT)
    corpus = find_corpus(None)
    path = corpus.store_tokens()
    whole = path.read_bytes()
    check_stored(path, f"corpus {corpus.name}")
    path.write_bytes(damage)
    found = hashlib.sha256(damage).hexdigest()
    says = f"corpus input.txt: {path} changed while cells ran: its SHA-256 is {found}, not"
    with pytest.raises(CacheError, match=f"{re.escape(says)}.*Run again: it is stored anew"):
        check_stored(path, f"corpus {corpus.name}")
    assert corpus.store_tokens() == path
    assert path.read_bytes() == whole


def test_tokens_that_are_gone_are_told_with_the_remedy(here):
    (here / "input.txt").write_text(TEXT)
    path = find_corpus(None).store_tokens()
    path.unlink()
    with pytest.raises(CacheError, match=r"cannot be read any more: No such file.*Run again"):
        check_stored(path, "corpus input.txt")


# --- tinyshakespeare ----------------------------------------------------------------------------


def test_tinyshakespeare_is_known_without_the_network(here):
    corpus = find_corpus("tinyshakespeare")
    assert corpus.ref.name == "tinyshakespeare"
    assert corpus.sha256 == TINYSHAKESPEARE_SHA256
    assert (corpus.n_chars, corpus.vocab_size) == (1_115_394, 65)  # as its readers report it
    corpus.check(32, DataOptions())


def test_tinyshakespeare_put_into_the_cache_by_hand_is_not_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE_SHA256", sha256(TEXT))
    path = tmp_path / "cache" / "corpora" / f"{sha256(TEXT)}.txt"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    assert find_corpus("tinyshakespeare").store() == path


def test_tinyshakespeare_is_fetched_once(monkeypatch):
    monkeypatch.setattr(corpora, "TINYSHAKESPEARE_SHA256", sha256(TEXT))
    asked = answer_with(monkeypatch, TEXT.encode())
    assert find_corpus("tinyshakespeare").store().read_text() == TEXT
    find_corpus("tinyshakespeare").store()
    assert asked == [corpora.TINYSHAKESPEARE_URL]


def test_a_fetched_text_with_another_hash_is_refused_and_not_kept(monkeypatch, tmp_path):
    answer_with(monkeypatch, b"<html>log in first</html>")
    says = f"its SHA-256 is {sha256(b'<html>log in first</html>')}, not {TINYSHAKESPEARE_SHA256}"
    with pytest.raises(CorpusError, match=says):
        find_corpus("tinyshakespeare").store()
    assert not list(tmp_path.glob("cache/**/*.txt"))


class Broken(io.BytesIO):
    def read(self, *_: Any) -> bytes:
        raise http.client.IncompleteRead(b"half", 100)


@pytest.mark.parametrize(
    "error",
    [
        urllib.error.URLError("Name or service not known"),
        urllib.error.HTTPError(
            "https://text.example", 404, "Not Found", http.client.HTTPMessage(), io.BytesIO()
        ),
        TimeoutError("timed out"),
        ConnectionResetError("reset"),
        http.client.RemoteDisconnected("closed without response"),
        http.client.BadStatusLine("?"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_fetch_that_fails_says_where_to_put_the_file(monkeypatch, tmp_path, error):
    answer_with(monkeypatch, error)
    cached = tmp_path / "cache" / "corpora" / f"{TINYSHAKESPEARE_SHA256}.txt"
    says = f"cannot be fetched .* put it at {re.escape(str(cached))}, or name a text of your own"
    with pytest.raises(CorpusError, match=says):
        find_corpus("tinyshakespeare").store()


def test_a_fetch_that_breaks_off_says_where_to_put_the_file(monkeypatch, tmp_path):
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Broken())
    with pytest.raises(CorpusError, match=rf"cannot be fetched .*{TINYSHAKESPEARE_SHA256}\.txt"):
        find_corpus("tinyshakespeare").store()
