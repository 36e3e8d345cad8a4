"""Files of token ids in every format, sound ones and broken ones, each refusal with its byte."""

import io
import os
import pickle
import re
import struct
import sys
from array import array
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.errors import CorpusError
from bench.records import shards
from bench.records.shards import first_beyond, read_layout, read_through
from tests.builders.tokenfiles import IDS, little, npy, shard


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def read_all(path: Path, vocab_size: int = 50_257) -> list[int]:
    """The tokens that the layout tells of, of a file that holds none but ids."""
    layout = read_layout(path)
    read_through(path, layout, vocab_size, lambda done: None)
    found = array("H", path.read_bytes()[layout.offset :])
    assert len(found) == layout.count
    assert layout.size == path.stat().st_size
    return found.tolist()


SOUND = {
    "shard.bin": shard(IDS),
    "shard without a suffix": shard(IDS),
    "plain.bin": little(IDS),
    "one.npy": npy(IDS, 1),
    "two.npy": npy(IDS, 2),
    "three.npy": npy(IDS, 3),
    "called otherwise.bin": npy(IDS, 1),
}


@pytest.mark.parametrize("name", SOUND)
def test_tokens_are_read_right_in_each_format(tmp_path: Path, name: str) -> None:
    assert read_all(write(tmp_path, name, SOUND[name])) == IDS


def test_what_numpy_saves_is_read(tmp_path: Path) -> None:
    np.save(tmp_path / "saved.npy", np.array(IDS, dtype="<u2"))
    assert read_all(tmp_path / "saved.npy") == IDS
    np.array(IDS, dtype=np.uint16).tofile(tmp_path / "written.bin")  # as nanoGPT's memmap is
    assert read_all(tmp_path / "written.bin") == IDS


def saved(values: object, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, **options))
    return buffer.getvalue()


def described(text: str, tokens: Sequence[int] = IDS) -> bytes:
    """A .npy with this header, up to an even byte."""
    header = text.encode() + b" " * (len(text) % 2)
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + little(tokens)


def headed(*numbers: int, tokens: Sequence[int] = IDS) -> bytes:
    return struct.pack("<3i", *numbers) + bytes(1012) + little(tokens)


N = len(IDS)
U2 = "{'descr': '<u2', 'fortran_order': False, 'shape': (%d,), } "
# Name of the file, content, byte, and what is said.
BROKEN: dict[str, tuple[str, bytes, int, str]] = {
    "empty": ("a.bin", b"", 0, "the file is empty"),
    "odd": ("a.bin", little(IDS) + b"\1", 2 * N, f"an odd number of bytes, {2 * N + 1:,}"),
    "no header and no .bin": ("a.txt", b"To be, or not", 0, "must be called .bin"),
    "a pickle": ("meta.pkl", pickle.dumps({"vocab_size": 65}), 0, "a pickle, .*vocab_size"),
    "a header cut off": ("a.bin", shard(IDS)[:1000], 1000, "ends within its header of 1,024"),
    "only a magic": ("a.bin", shard(IDS)[:4], 4, "ends within its header"),
    "a shard cut off": (
        "a.bin",
        shard(IDS)[:-2],
        8,
        f"counts {N} tokens, and the file has {N - 1}",
    ),
    "half a token": ("a.bin", shard(IDS)[:-1], 8, f"counts {N} tokens, .* has {N - 1}.5 after it"),
    "more than counted": ("a.bin", shard(IDS) + b"\0\0", 8, f"counts {N} .* has {N + 1} after it"),
    "a count below 0": ("a.bin", headed(20240520, 1, -5), 8, "counts -5 tokens"),
    "another magic": ("a.bin", headed(20240521, 1, N), 0, "magic 20240521 .*Allowed is 20240520"),
    "of Llama 3": ("a.bin", headed(20240801, 7, N), 0, "uint32 tokens, .*Only uint16 is read"),
    "another version": ("a.bin", headed(20240520, 2, N), 4, "version 2 of a shard"),
    "big-endian": (
        "a.bin",
        struct.pack(">3i", 20240520, 1, N) + bytes(1012) + little(IDS),
        0,
        "other byte order: big-endian",
    ),
    "numpy's big-endian": ("a.npy", saved(IDS, dtype=">u2"), 10, "'>u2', big-endian.*astype"),
    "int64": ("a.npy", saved(IDS), 10, "dtype '<i8'.*Allowed is '<u2'.*numpy.load\\('a.npy'\\)"),
    "uint32": ("a.npy", saved(IDS, dtype="<u4"), 10, "dtype '<u4'"),
    "two dimensions": ("a.npy", saved([IDS], dtype="<u2"), 10, rf"shape \(1, {N}\).*one dimension"),
    "no dimension": ("a.npy", saved(7, dtype="<u2"), 10, r"shape \(\)"),
    "Fortran's order": ("a.npy", described((U2 % N).replace("False", "True")), 10, "C order"),
    "an array cut off": ("a.npy", npy(IDS, 1)[:-2], 10, f"counts {N} tokens, .* has {N - 1} after"),
    "an empty array": ("a.npy", npy([], 1), 128, "without any token"),
    "numpy's header cut off": ("a.npy", npy(IDS, 1)[:60], 60, "ends within NumPy's header"),
    "only numpy's magic": ("a.npy", b"\x93NUMPY", 6, r"version 0\.0 of NumPy's format"),
    "numpy's version 4": ("a.npy", b"\x93NUMPY\4\0" + npy(IDS, 1)[8:], 6, r"version 4\.0"),
    "no header of numpy": ("a.npy", described("nothing!!!"), 10, "header is none"),
    "a call in the header": (
        "a.npy",
        described("__import__('os').abort()  "),
        10,
        "header is none",
    ),
    "a list for a key": ("a.npy", described("{[]: 1}"), 10, "header is none"),
    "deep": ("a.npy", described("[" * 5_000 + "]" * 5_000), 10, "header is none"),
    "a key is missing": ("a.npy", described("{'descr': '<u2', 'shape': (3,)}   "), 10, "lacks one"),
    "a count that is none": ("a.npy", described(U2.replace("%d", "-3")), 10, r"shape \(-3,\)"),
    "a count beyond print": ("a.npy", described(U2.replace("%d", f"0x{'f' * 5_000}")), 10, "none"),
    "a flag for a count": ("a.npy", described(U2.replace("%d", "True")), 10, r"shape \(True,\)"),
    "an odd header": (
        "a.npy",
        b"\x93NUMPY\1\0\1\0 ",
        10,
        "even byte",
    ),
    "a huge header": ("a.npy", described(" " * 20_000), 10, "20,000 bytes.*at most 10,000"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_broken_is_refused_with_the_byte(tmp_path: Path, case: str) -> None:
    name, content, byte, says = BROKEN[case]
    path = write(tmp_path, name, content)
    with pytest.raises(CorpusError) as refused:
        read_layout(path)
    said = str(refused.value)
    assert said.startswith(f"{path}, byte {byte:,}: ")
    assert re.search(says, said), said
    assert said.endswith(".")


def test_a_folder_a_pipe_and_what_cannot_be_read_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"byte 0: a folder\. Name the files in it: .*\*\.bin\."):
        read_layout(tmp_path)
    os.mkfifo(tmp_path / "pipe.bin")
    with pytest.raises(CorpusError, match="no ordinary file"):
        read_layout(tmp_path / "pipe.bin")
    with pytest.raises(CorpusError, match=r"byte 0: not readable \(No such file"):
        read_layout(tmp_path / "gone.bin")


def test_a_file_without_permission_is_refused(tmp_path: Path, monkeypatch) -> None:
    """As root nothing is forbidden: the refusal is played."""
    path = write(tmp_path, "a.bin", little(IDS))

    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CorpusError, match=r"not readable \(Permission denied\)\. Make it readable"):
        read_layout(path)


# --- Ids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [shard, little, lambda ids: npy(ids, 2)])
@pytest.mark.parametrize("part", [4, 64, shards.PART])
def test_the_first_id_beyond_the_vocabulary_is_told_with_its_byte(
    tmp_path: Path, monkeypatch, make: Callable[[Sequence[int]], bytes], part: int
) -> None:
    monkeypatch.setattr(shards, "PART", part)
    ids = [*IDS, 50_257, 65_535]
    path = write(tmp_path, "a.bin", make(ids))
    layout = read_layout(path)
    says = f"byte {layout.offset + 2 * N:,}: token id 50,257, and data.vocab_size is 50,257"
    with pytest.raises(CorpusError, match=f"{re.escape(says)}. Allowed are ids from 0 to 50,256"):
        read_through(path, layout, 50_257, lambda done: None)
    assert read_all(path, 65_536) == ids


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    ids=st.lists(st.integers(0, 65_535) | st.integers(50_000, 50_500), max_size=60),
    vocab_size=st.integers(2, 65_536) | st.sampled_from([255, 256, 257, 50_257]),
)
def test_the_first_id_beyond_is_that_of_a_plain_loop(ids: list[int], vocab_size: int) -> None:
    plain = next((n for n, each in enumerate(ids) if each >= vocab_size), None)
    assert first_beyond(little(ids), vocab_size) == plain


# --- Any bytes ----------------------------------------------------------------------------------


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(
    head=st.sampled_from([shard(IDS), npy(IDS, 1), npy(IDS, 2), npy(IDS, 3), b"", little(IDS)]),
    cut=st.integers(0, 1_200),
    changes=st.lists(st.tuples(st.integers(0, 150), st.integers(0, 255)), max_size=4),
    more=st.binary(max_size=9),
)
def test_any_file_is_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory,
    head: bytes,
    cut: int,
    changes: list[tuple[int, int]],
    more: bytes,
) -> None:
    """Nothing else is raised, and what is read lies within the file."""
    content = bytearray(head[:cut] + more)
    for place, value in changes:
        if place < len(content):
            content[place] = value
    path = write(tmp_path_factory.getbasetemp(), "any.bin", bytes(content))
    try:
        layout = read_layout(path)
    except CorpusError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert re.match(rf"{re.escape(str(path))}, byte [\d,]+: ", said)
        return
    assert layout.size == len(content)
    assert layout.count > 0
    assert layout.offset % 2 == 0


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "a.bin", shard(IDS))
    layout = read_layout(path)
    path.write_bytes(shard(IDS)[:-4])
    with pytest.raises(CorpusError, match=rf"byte {1020 + 2 * N:,}: the file ends here"):
        read_through(path, layout, 50_257, lambda done: None)


@pytest.mark.skipif(sys.byteorder != "little", reason="array writes in the machine's order")
def test_progress_is_told_up_to_the_end(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "PART", 8)
    path, told = write(tmp_path, "a.bin", shard(IDS)), list[int]()
    read_through(path, read_layout(path), 50_257, told.append)
    assert told == sorted(told)
    assert told[-1] == path.stat().st_size
