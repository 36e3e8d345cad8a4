"""Code that a matrix brings along: kept in the cache under its hash, never imported here."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.errors import CodeError
from bench.records.corpora import cache_folder

MOST_BYTES = 50 * 2**20


@dataclass(frozen=True)
class OwnCode:
    """A package's folder, or one module's file, as it was when the matrix was read."""

    name: str  # my_package or my_module.py
    sha256: str  # over the names and bytes of its files
    files: dict[str, bytes] = field(repr=False, hash=False)  # by path, the name first

    def store(self) -> Path:
        """The folder in the cache that holds it, named by its hash: what cells import from."""
        folder = cache_folder().with_name("code") / self.sha256
        try:
            for path in set(_files(folder)) - self.files.keys():
                (folder / path).unlink()
            for path, content in self.files.items():
                _write(folder / path, content)
            for where, _, _ in os.walk(folder):
                os.chmod(where, 0o755)  # a container has another user
        except OSError as error:
            raise CodeError(
                f"the cache of code {folder.parent} cannot be written: {error.strerror}. "
                "Set BENCH_CACHE to a folder that can."
            ) from error
        return folder


def _write(path: Path, content: bytes) -> None:
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content, mode=0o644)


def read_code(path: Path) -> OwnCode:
    """A package's folder or a module's file, without hidden files and what Python compiled.

    Raises:
        CodeError: if it is not there, is no code, cannot be read, or is too large to be code.
    """
    try:
        if not path.exists():
            raise CodeError(f"{path} is not there. A path is relative to the matrix file.")
        files, left = {}, MOST_BYTES
        for name in _files(path) if path.is_dir() else [""]:
            content = (path / name).read_bytes()
            files[f"{path.name}/{name}" if name else path.name] = content
            left -= len(content)
            if left < 0:
                raise CodeError(
                    f"{path} holds more than {MOST_BYTES // 2**20} MiB. Give the folder of the "
                    "package alone, without data or an environment beside it."
                )
    except OSError as error:
        raise CodeError(f"{path} cannot be read: {error.strerror}.") from error
    if not any(name.endswith(".py") for name in files):
        raise CodeError(f"{path} holds no Python file. Give a package's folder, or a .py file.")
    return OwnCode(path.name, _sha256(files), files)


def check_code(folder: Path) -> None:
    """The cache's copy is still what `store` left: before each cell, which imports it.

    Raises:
        CodeError: if it is gone or another.
    """
    try:
        found = _sha256({name: (folder / name).read_bytes() for name in _files(folder)})
    except OSError as error:
        what = f"{folder} cannot be read any more: {error.strerror}. Run again: it is stored anew."
        raise CodeError(what) from error
    if found != folder.name:
        raise CodeError(f"{folder} changed while cells ran. Run again: it is stored anew.")


def _files(folder: Path) -> Iterator[str]:
    """Paths of the files in it, however deep, from the folder on."""
    for where, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if each != "__pycache__" and each[0] != "."]
        for name in names:
            file = Path(where) / name
            if name[0] != "." and file.is_file():
                yield file.relative_to(folder).as_posix()


def _sha256(files: dict[str, bytes]) -> str:
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        total.update(f"{name} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()
