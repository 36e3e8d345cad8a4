"""A program that a matrix brings, and the data that it reads: known by their content."""

import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from pathspec import GitIgnoreSpec

from bench.errors import CodeError
from bench.records.cache import remembered, sha256_of
from bench.records.folder import ResultsFolder
from bench.records.owncode import OwnCode

MOST_BYTES = 100 * 2**20
IGNORED = ".gitignore"


def read_program(path: Path, ignore: Sequence[str], matrix: Path) -> OwnCode:
    """A program's folder, or the one file that it is; paths of its files are within that folder.

    Left out are hidden files, what Python compiled, what a .gitignore in the folder names, and what
    `ignore` does, in the same language; and the matrix file itself and what runs have left, which
    may lie in that folder too, and change while the program does not.

    Raises:
        CodeError: if it is not there, is empty, cannot be read, or is too large to be code.
    """
    try:
        if not path.exists():
            raise CodeError(f"{path} is not there. A path is relative to the matrix file.")
        if path.is_file():
            sizes = {path.name: _stat(path).st_size}
        else:
            names = _names(path, ignore, matrix)
            sizes = {name: _stat(path / name).st_size for name in names}
        _check_sizes(path, sizes)
        folder = path.parent if path.is_file() else path
        files = {name: (folder / name).read_bytes() for name in sizes}
    except OSError as error:
        what = f"{error.filename or path} cannot be read: {error.strerror}."
        raise CodeError(f"{what} Make it readable, or leave it out by program.ignore.") from error
    return OwnCode(path.name, sha256_of(files), files)


def _names(top: Path, ignore: Sequence[str], matrix: Path) -> Iterator[str]:
    """Paths of the files within a folder that belong to it.

    Raises:
        CodeError: for a link to a folder, and for what is no pattern.
    """
    specs = [(top, _spec(ignore, "program.ignore"))]  # each with the folder that it reaches down
    for here, folders, names in os.walk(top):
        where = Path(here)
        if IGNORED in names:
            lines = (where / IGNORED).read_text(encoding="utf-8", errors="replace").splitlines()
            specs.append((where, _spec(lines, str(where / IGNORED))))
        folders[:] = sorted(each for each in folders if _is_kept(where / each, specs))
        folders[:] = (each for each in folders if not _has_results(where / each))
        for link in (where / each for each in folders if (where / each).is_symlink()):
            raise CodeError(
                f"{link} is a link to a folder. Leave it out by program.ignore; what programs "
                "read, program.data gives."
            )
        kept = (where / each for each in names if _is_kept(where / each, specs))
        kept = (file for file in kept if file != matrix)
        yield from sorted(file.relative_to(top).as_posix() for file in kept)


def _spec(lines: Sequence[str], place: str) -> GitIgnoreSpec:
    try:
        return GitIgnoreSpec.from_lines(lines)
    except (ValueError, re.error) as error:
        raise CodeError(f"{place} holds what is no pattern: {error}. Correct it.") from error


def _stat(path: Path) -> os.stat_result:
    """Of a file: whoever reads a pipe waits without end.

    Raises:
        CodeError: if it is something else.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise CodeError(f"{path} is neither a file nor a folder. Take it away.")
    return found


def _is_kept(path: Path, specs: Iterable[tuple[Path, GitIgnoreSpec]]) -> bool:
    if path.name[0] == "." or path.name == "__pycache__":
        return False
    end = "/" if path.is_dir() else ""  # some patterns are for folders alone
    return not any(
        spec.match_file(f"{path.relative_to(folder)}{end}")
        for folder, spec in specs
        if path.is_relative_to(folder)
    )


def _has_results(folder: Path) -> bool:
    """Whether it is a results folder, or one of those."""
    found = map(ResultsFolder, (folder, *(each for each in folder.iterdir() if each.is_dir())))
    return any(each.plan.is_file() and each.cells.is_dir() for each in found)


def _check_sizes(path: Path, sizes: dict[str, int]) -> None:
    if not sizes:
        raise CodeError(f"{path} holds no file that is not ignored. Give the program's own folder.")
    if sum(sizes.values()) > MOST_BYTES:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
        told = ", ".join(f"{name} ({sizes[name] / 2**20:.1f} MiB)" for name in largest)
        raise CodeError(
            f"{path} holds {sum(sizes.values()) / 2**20:.0f} MiB, more than {MOST_BYTES // 2**20}: "
            f"each cell gets a copy of it. The largest: {told}. Leave them out by program.ignore, "
            "and give what it reads by program.data."
        )


@dataclass(frozen=True)
class DataFolder:
    """A file, or a folder of them, that programs read: as it was when the matrix was read."""

    path: Path
    # Name within it, bytes, and the times in ns when its content and anything of it changed: the
    # first can be set to what it was, and is by whoever copies with times.
    files: tuple[tuple[str, int, int, int], ...]

    @property
    def n_bytes(self) -> int:
        return sum(size for _, size, _, _ in self.files)

    @cached_property
    def sha256(self) -> str:
        """Over the names and bytes of its files.

        Computed once: it is remembered in the cache, by their names, sizes and times.

        Raises:
            CodeError: if one cannot be read.
        """
        return remembered(json.dumps([str(self.path), self.files]), self._hashed)

    def _hashed(self) -> str:
        total = hashlib.sha256()
        try:
            for name, *_ in self.files:
                with (self.path / name).open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
                total.update(f"{name} {content}\n".encode(errors="surrogateescape"))
        except OSError as error:
            raise _unreadable(self.path, error) from error
        return total.hexdigest()

    def check(self) -> None:
        """It is still what its hash tells: before each cell, which reads it.

        Raises:
            CodeError: if it changed.
        """
        now = read_data(self.path)
        if now.files != self.files and now.sha256 != self.sha256:
            raise CodeError(
                f"{self.path} changed while cells ran: rows would tell the hash of other data. "
                "Run again: what is open runs with what is there now."
            )


def read_data(path: Path) -> DataFolder:
    """What lies at a path now.

    Raises:
        CodeError: if it is not there, is empty, or cannot be read.
    """
    try:
        names = [""] if path.is_file() else sorted(_all_names(path))
        stats = [(name, _stat(path / name)) for name in names]
    except OSError as error:
        raise _unreadable(path, error) from error
    if not names:
        what = "holds no file" if path.is_dir() else "is not there"
        raise CodeError(f"{path} {what}. A path is relative to the matrix file.")
    return DataFolder(
        path,
        tuple((name, it.st_size, it.st_mtime_ns, it.st_ctime_ns) for name, it in stats),
    )


def _unreadable(path: Path, error: OSError) -> CodeError:
    what = f"{error.filename or path} cannot be read: {error.strerror}."
    return CodeError(f"{what} Make it readable, or take it away.")


def _all_names(top: Path) -> Iterator[str]:
    for here, folders, names in os.walk(top):
        for path in (Path(here) / name for name in (*folders, *names)):
            # realpath, for a link that leads to itself: that it cannot be read is told later.
            inside = Path(os.path.realpath(path)).is_relative_to(top.resolve())
            if path.is_symlink() and not inside:
                raise CodeError(
                    f"{path} leads out of {top}: in a container there is nothing. Put what it "
                    "leads to in its place, or name that by program.data."
                )
        yield from ((Path(here) / name).relative_to(top).as_posix() for name in names)
