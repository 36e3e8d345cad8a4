"""A .tar.gz of plain files: equal content gives equal bytes, and a stranger's is read warily.

Only the old, plain form of tar (USTAR) is written and read: no links, no devices, no extensions.
"""

import gzip
import hashlib
import io
import tarfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import BundleError

# A report on 10,000 cells with 1,000,000 evaluations, with its files of evidence, is some 500 MiB
# in 70,000 files, and raw readings add as much as that again or more. What claims
# to be far larger is an accident or an attack.
MOST_BYTES = 4 * 2**30
MOST_MEMBERS = 250_000

BLOCK = tarfile.BLOCKSIZE  # 512 bytes: tar's unit
END = 2 * tarfile.RECORDSIZE  # at most so many bytes of zeros come behind the last member
CHUNK = 2**20
MTIME = 946_684_800  # 2000-01-01 UTC; GNU tar calls an earlier one implausibly old
LEVEL = 6  # of gzip: 9 takes three times as long for 1 % less


@dataclass(frozen=True)
class Unpacked:
    """What an archive held."""

    sha256: dict[str, str] = field(default_factory=dict)  # member -> SHA-256 of its content
    wrong: list[str] = field(default_factory=list)  # one sentence a member that may not be there
    damage: list[str] = field(default_factory=list)  # where it could be read no further, and why


def pack(members: Iterable[tuple[str, bytes]]) -> bytes:
    """An archive of (name, content) in the order given, with nothing of this machine in it.

    Raises:
        BundleError: for a name or a size that `unpack` would refuse.
    """
    total = 0
    buffer = io.BytesIO()
    with (
        gzip.GzipFile("", "wb", LEVEL, buffer, mtime=0) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.USTAR_FORMAT) as archive,
    ):
        for count, (name, content) in enumerate(members, start=1):
            total += BLOCK + len(content) + -len(content) % BLOCK
            if why := wrong_name(name):
                raise BundleError(f"{shown(name)}: {why}. Rename it.")
            if total > MOST_BYTES - END or count > MOST_MEMBERS:
                raise BundleError(f"with {shown(name)} the bundle would hold {_too_much()}.")
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.mode = len(content), MTIME, 0o644
            try:
                archive.addfile(info, io.BytesIO(content))
            except ValueError as error:  # the plain form has 255 bytes for a name, in two parts
                raise BundleError(f"{shown(name)}: {error}. Shorten it.") from error
    return buffer.getvalue()


def unpack(file: Path, place: Path) -> Unpacked:
    """Read an archive to its end; write its members into `place`, but none that is wrong.

    Memory and disk stay bounded whatever the file claims, and nothing is written elsewhere.
    Of a damaged archive, what can be read is unpacked, the last member perhaps in part.

    Raises:
        BundleError: for what is no such archive, or too large; for a disk without room.
    """
    found = Unpacked()
    try:
        with gzip.open(file) as stream:
            _Reader(file, stream, place, found).read()
    except (EOFError, UnicodeError, gzip.BadGzipFile, tarfile.TarError, zlib.error) as error:
        if not found.sha256:
            raise BundleError(
                f"{file} is no bundle, or damaged from its beginning: it cannot be read ({error})."
            ) from error
        last = shown(list(found.sha256)[-1])
        found.damage.append(f"{last}: in it or soon after it, {file} is damaged: {error}")
    except OSError as error:
        raise BundleError(f"{file} cannot be read or unpacked: {error}.") from error
    return found


def wrong_name(name: str) -> str:
    """Why a member may not be called so; empty if it may."""
    if name.startswith("/"):
        return "is an absolute path"
    if ".." in name.split("/"):
        return "leads out of its folder"
    if not name.isprintable() or "\\" in name:
        return "has a control character or a backslash in its name"
    if {"", "."} & set(name.split("/")):
        return "is no plain path"
    return ""


def shown(name: str) -> str:
    """A stranger's text for a terminal: control characters are written out."""
    return name if name.isprintable() else ascii(name)


def _too_much() -> str:
    return f"over {MOST_BYTES / 2**30:.0f} GiB or {MOST_MEMBERS:,} files"


class _Reader:
    """One pass over the members of one archive."""

    def __init__(self, file: Path, stream: gzip.GzipFile, place: Path, found: Unpacked) -> None:
        self.file, self.stream, self.place, self.found = file, stream, place, found
        self.left = MOST_BYTES  # that may still come
        self.count = 0  # members so far
        self.folders: set[str] = set()

    def read(self) -> None:
        while any(block := self._take(BLOCK)):
            self.count += 1
            # One header by itself: tarfile's own reader follows extensions without bound.
            header = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
            if not 0 <= header.size < self.left or self.count > MOST_MEMBERS:
                raise self._too_large(f", with {shown(header.name)},")
            self._member(header)
            self._take(-header.size % BLOCK)
        while rest := self.stream.read(min(CHUNK, self.left)):  # to gzip's own checksum
            self.left -= len(rest)
            if any(rest):
                raise BundleError(f"{self.file} holds data after its end: it is no bundle.")
        if not self.left:
            raise self._too_large("")

    def _too_large(self, where: str) -> BundleError:
        return BundleError(f"{self.file} holds{where} {_too_much()}, or says so: not unpacked.")

    def _take(self, size: int) -> bytes:
        """The next bytes, at most a chunk of them."""
        data = self.stream.read(size)
        if len(data) != size:
            raise EOFError("it ends too early")
        self.left -= size
        return data

    def _member(self, header: tarfile.TarInfo) -> None:
        name, total = header.name, hashlib.sha256()
        if why := self._refused(header):
            self.found.wrong.append(f"{shown(name)}: {why}")
            self._pass_on(header.size)
            return
        parts = name.split("/")
        self.folders |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
        target = self.place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        self.found.sha256[name] = ""  # the one of a member that breaks off
        with target.open("xb") as out:
            self._pass_on(header.size, total.update, out.write)
        self.found.sha256[name] = total.hexdigest()

    def _pass_on(self, size: int, *takers: Callable[[bytes], object]) -> None:
        while size:
            data = self._take(min(size, CHUNK))
            size -= len(data)
            for take in takers:
                take(data)

    def _refused(self, header: tarfile.TarInfo) -> str:
        """Why a member is not unpacked; empty if it is."""
        name = header.name
        if header.type != tarfile.REGTYPE:
            return "is no plain file, such as a link or a folder: a bundle holds none"
        if why := wrong_name(name):
            return why
        if name in self.found.sha256:
            return "is there twice"
        above = {name[:at] for at, letter in enumerate(name) if letter == "/"}
        if name in self.folders or above & self.found.sha256.keys():
            return "is a file and a folder"
        return ""
