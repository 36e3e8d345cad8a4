"""A file of token ids, as people store them: where its tokens lie, and whether it is sound.

Three formats, all of little-endian uint16:
    a shard   a header of 256 int32, 20240520, version 1 and the number of tokens first; then they
    .bin      tokens and nothing else
    .npy      NumPy's header, of versions 1 to 3; then the numbers of an array of one dimension
Sources: dev/data/data_common.py of karpathy/llm.c (modded-nanogpt's shards are the same),
data/openwebtext/prepare.py of karpathy/nanoGPT, and numpy.lib.format.
"""

import ast
import hashlib
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from bench.errors import CorpusError, shown

ITEM = 2  # bytes of a token
MOST_TOKENS = 65_536  # that uint16 can tell apart

MAGIC, VERSION = 20_240_520, 1
WIDE_MAGIC = 20_240_801  # llm.c's shards of Llama 3, whose tokens are uint32
HEADER = 256 * 4

NUMPY_MAGIC = b"\x93NUMPY"
# How the length of NumPy's header is told, by its version.
NUMPY_LENGTHS = {1: "<H", 2: "<I", 3: "<I"}
NUMPY_MOST = 10_000  # bytes of a header that is parsed; NumPy's own limit
NUMPY_KEYS = {"descr", "fortran_order", "shape"}

PICKLES = (".pkl", ".pickle", ".pt")
PART = 1 << 20  # bytes that are read at once; a whole number of tokens

Read = Callable[[int], None]  # is told how many bytes of a file have been read


@dataclass(frozen=True)
class Layout:
    """Where the tokens of a file lie: from a byte on to its end."""

    offset: int  # bytes
    count: int  # tokens

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.offset + ITEM * self.count


def read_layout(path: Path) -> Layout:
    """Where the tokens of a file lie, by its header and its size; of its tokens nothing is read.

    Raises:
        CorpusError: for what is no such file, with the byte where that shows.
    """
    try:
        found = path.stat()
        if stat.S_ISDIR(found.st_mode):
            raise wrong(path, 0, "a folder", f"Name the files in it: {path}/*.bin")
        if not stat.S_ISREG(found.st_mode):
            raise wrong(path, 0, "no ordinary file", "Give a file")
        if path.suffix in PICKLES:
            raise wrong(path, 0, "a pickle, which is never loaded", f"{FORMATS}. {VOCABULARY}")
        with path.open("rb") as file:
            return _layout(path, file, found.st_size)
    except OSError as error:
        what = f"not readable ({error.strerror})"
        raise wrong(path, 0, what, "Make it readable, or leave it out") from error


FORMATS = (
    "Give a shard of llm.c or modded-nanogpt, a .bin of uint16 without a header, or a .npy of one "
    "dimension and '<u2'"
)
VOCABULARY = (
    "How many ids there are, data.vocab_size says: a meta.pkl beside the files is a pickle, which "
    "is never loaded; write its vocab_size into the matrix"
)


def wrong(path: Path, byte: int, found: str, remedy: str) -> CorpusError:
    return CorpusError(f"{path}, byte {byte:,}: {found}. {remedy}.")


def _layout(path: Path, file: BinaryIO, size: int) -> Layout:
    head = file.read(HEADER)
    if not head:
        raise wrong(path, 0, "the file is empty", FORMATS)
    if head.startswith(NUMPY_MAGIC):
        return _of_numpy(path, file, size)
    magic = int.from_bytes(head[:4], "little")
    if magic == MAGIC:
        return _of_shard(path, head, size)
    _refuse_other_shards(path, head, size)
    if path.suffix != ".bin":
        what = f"neither the header of a shard nor NumPy's, but {head[:8].hex(' ')}"
        raise wrong(path, 0, what, f"{FORMATS}; without a header it must be called .bin")
    if size % ITEM:
        what = f"an odd number of bytes, {size:,}: the last token is cut off"
        raise wrong(path, size - 1, what, "Tokens are uint16, two bytes each. Transfer it again")
    return Layout(0, size // ITEM)


def _of_shard(path: Path, head: bytes, size: int) -> Layout:
    if len(head) < HEADER:
        what = f"the file ends within its header of {HEADER:,} bytes"
        raise wrong(path, size, what, "It was not transferred whole: do that again")
    _, version, count = struct.unpack_from("<3i", head)
    if version != VERSION:
        what = f"version {version} of a shard"
        raise wrong(path, 4, what, f"Only version {VERSION} is known, of uint16")
    if size != HEADER + ITEM * count:
        raise _miscounted(path, 8, count, size - HEADER)
    return Layout(HEADER, count)


def _miscounted(path: Path, byte: int, count: int, n_bytes: int) -> CorpusError:
    """Of a header that counts so many tokens before so many bytes."""
    held = f"{n_bytes // ITEM:,}{'.5' if n_bytes % ITEM else ''}"
    what = f"the header counts {count:,} tokens, and the file has {held} after it"
    return wrong(path, byte, what, "It was cut off or written wrongly: transfer it again")


def _refuse_other_shards(path: Path, head: bytes, size: int) -> None:
    """What has no header that we know, and looks as if it were to have one."""
    magic = int.from_bytes(head[:4], "little")
    if magic == WIDE_MAGIC:
        what = f"magic {magic}: a shard of uint32 tokens, as llm.c has them for Llama 3"
        remedy = f"Only uint16 is read, magic {MAGIC}: tokenise with at most {MOST_TOKENS:,} ids"
        raise wrong(path, 0, what, remedy)
    if int.from_bytes(head[:4], "big") in (MAGIC, WIDE_MAGIC):
        what = "the magic of a shard in the other byte order: big-endian"
        raise wrong(path, 0, what, "Write it as little-endian")
    if len(head) == HEADER:
        _, version, count = struct.unpack_from("<3i", head)
        if version == VERSION and size == HEADER + ITEM * count:
            what = f"magic {magic} before a version and a count that fit a shard"
            raise wrong(path, 0, what, f"Allowed is {MAGIC}. Was it written by another program?")


def _of_numpy(path: Path, file: BinaryIO, size: int) -> Layout:
    text, begin, offset = _numpy_header(path, file, size)
    try:
        header = ast.literal_eval(text)
        _check_array(path, begin, header)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        what = f"NumPy's header is none ({type(error).__name__})"
        raise wrong(path, begin, what, "Save the array anew") from error
    layout = Layout(offset, header["shape"][0])
    if size != layout.size:
        raise _miscounted(path, begin, layout.count, size - offset)
    if not layout.count:
        raise wrong(path, offset, "an array without any token", "Give tokens")
    return layout


def _numpy_header(path: Path, file: BinaryIO, size: int) -> tuple[str, int, int]:
    """Its text, the byte where that begins, and the one where it ends and the tokens begin."""
    file.seek(len(NUMPY_MAGIC))
    major, minor = file.read(2).ljust(2, b"\0")
    if major not in NUMPY_LENGTHS or minor:
        what = f"version {major}.{minor} of NumPy's format"
        raise wrong(path, len(NUMPY_MAGIC), what, "Known are 1.0, 2.0 and 3.0")
    form = NUMPY_LENGTHS[major]
    begin = len(NUMPY_MAGIC) + 2 + struct.calcsize(form)
    told = file.read(struct.calcsize(form))
    length = struct.unpack(form, told)[0] if begin <= size else 0
    if begin > size or begin + length > size:
        what = "the file ends within NumPy's header"
        raise wrong(path, size, what, "It was not transferred whole: do that again")
    if length > NUMPY_MOST or (begin + length) % ITEM:
        what = f"a header of {length:,} bytes"
        remedy = f"Allowed are at most {NUMPY_MOST:,}, and an even byte where tokens begin"
        raise wrong(path, begin, what, f"{remedy}. Save the array anew")
    text = file.read(length)
    return text.decode("utf-8" if major == 3 else "latin-1", "replace"), begin, begin + length


def _check_array(path: Path, begin: int, header: Any) -> None:
    if not isinstance(header, dict) or header.keys() != NUMPY_KEYS:
        what = f"NumPy's header lacks one of {', '.join(sorted(NUMPY_KEYS))}, or has more"
        raise wrong(path, begin, what, "Save the array anew")
    descr, shape = header["descr"], header["shape"]
    if descr != "<u2":
        big = ", big-endian" if descr == ">u2" else ""
        what = f"numbers of dtype {shown(descr)}{big}"
        remedy = (
            "Allowed is '<u2'. Where all ids are below 65,536, convert them: "
            f"numpy.save(NEW, numpy.load({path.name!r}).astype('<u2'))"
        )
        raise wrong(path, begin, what, remedy)
    if not (isinstance(shape, tuple) and len(shape) == 1 and _is_count(shape[0])):
        what = f"an array of shape {shown(shape)}"
        raise wrong(path, begin, what, "Allowed is one dimension: save array.ravel()")
    if header["fortran_order"] is not False:
        what = f"fortran_order {shown(header['fortran_order'])}"
        raise wrong(path, begin, what, "Allowed is C order: save numpy.ascontiguousarray(array)")


def _is_count(number: object) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**63


def read_through(path: Path, layout: Layout, vocab_size: int, read: Read) -> str:
    """The SHA-256 of a file, all of whose tokens are ids below `vocab_size`; part by part.

    Raises:
        CorpusError: for a file that cannot be read, is no longer of its layout, or has another id.
    """
    total, at = hashlib.sha256(), layout.offset
    try:
        with path.open("rb") as file:
            total.update(file.read(layout.offset))
            while part := file.read(PART):
                total.update(part)
                _check_ids(path, part, at, vocab_size)
                at += len(part)
                read(at)
    except OSError as error:
        what = f"not readable ({error.strerror})"
        raise wrong(path, at, what, "Make it readable, or leave it out") from error
    if at != layout.size:
        what = f"the file ends here, and had {layout.size:,} bytes before it was read"
        raise wrong(path, at, what, "Run again when nobody writes it any more")
    return total.hexdigest()


def _check_ids(path: Path, part: bytes, at: int, vocab_size: int) -> None:
    first = first_beyond(part, vocab_size)
    if first is None:
        return
    token = int.from_bytes(part[ITEM * first :][:ITEM], "little")
    what = f"token id {token:,}, and data.vocab_size is {vocab_size:,}"
    remedy = f"Allowed are ids from 0 to {vocab_size - 1:,}: give the vocabulary's whole size"
    raise wrong(path, at + ITEM * first, what, remedy)


def first_beyond(part: bytes, vocab_size: int) -> int | None:
    """Which of these tokens is the first at or beyond `vocab_size`; None if none is.

    Without a loop over tokens in Python: an id is too large if its high byte is above that of
    `vocab_size` (marked 3), or equal to it (1) with a low byte that is no smaller (3; else 2). Of
    these alone the marks of both bytes have a bit in common.
    """
    high, low = divmod(vocab_size, 256)
    above = bytes(0 if each < high else 1 if each == high else 3 for each in range(256))
    beside = bytes(2 if each < low else 3 for each in range(256))
    marks = int.from_bytes(part[1::2].translate(above), "little")
    marks &= int.from_bytes(part[::2].translate(beside), "little")
    return ((marks & -marks).bit_length() - 1) // 8 if marks else None
