"""Code that a matrix brings along: kept in the cache under its hash, never imported here."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import CodeError
from bench.records.cache import cache_folder, names_in, sha256_of, store, walk

MOST_BYTES = 50 * 2**20
MOST_PATHS = 16  # to one folder, by links: where each holds two to the next, paths double


@dataclass(frozen=True)
class OwnCode:
    """A package's folder, or one module's file, as it was when the matrix was read."""

    name: str  # my_package or my_module.py
    sha256: str  # over the names and bytes of its files
    files: dict[str, bytes] = field(repr=False, hash=False)  # by path, the name first

    def store(self) -> Path:
        """The folder in the cache that holds it, named by its hash: what cells import from."""
        return store(cache_folder() / "code" / self.sha256, lambda: self.files)


def read_code(path: Path) -> OwnCode:
    """A package's folder or a module's file, without hidden files and what Python compiled.

    Raises:
        CodeError: if it is not there, is no code, cannot be read, or is too large to be code.
    """
    try:
        if not path.exists():
            raise CodeError(f"{path} is not there. A path is relative to the matrix file.")
        files, left = {}, MOST_BYTES
        _check_links(path)
        for name in names_in(path):
            content = (path / name).read_bytes()
            files[f"{path.name}/{name}" if name else path.name] = content
            left -= len(content)
            if left < 0:
                raise CodeError(
                    f"{path} holds more than {MOST_BYTES // 2**20} MiB. Give the folder of the "
                    "package alone, without data or an environment beside it."
                )
    except OSError as error:
        raise CodeError(f"{path} cannot be read: {error.strerror}. Make it readable.") from error
    if not any(name.endswith(".py") for name in files):
        raise CodeError(f"{path} holds no Python file. Give a package's folder, or a .py file.")
    return OwnCode(path.name, sha256_of(files), files)


def _check_links(path: Path) -> None:
    """A link is read as what it leads to; one to a folder that holds it would have no end.

    Raises:
        CodeError: for such a link, for one that leads nowhere, and where too many lead to a folder.
    """
    reached: Counter[Path] = Counter()
    for where, folders, names in walk(path):
        folder = where.resolve()
        reached[folder] += 1
        if reached[folder] > MOST_PATHS:
            raise CodeError(
                f"{folder} is reached by more than {MOST_PATHS} paths, by links within {path}. "
                "Remove links to it, or to folders that hold it."
            )
        holders = [each for each in (where, *where.parents) if each.is_relative_to(path)]
        for link in (where / name for name in (*folders, *names)):
            if not link.is_symlink():
                continue
            if not link.exists():
                raise CodeError(
                    f"{link} leads to {os.readlink(link)}, which is not there. Remove it."
                )
            if any(holder.resolve().is_relative_to(link.resolve()) for holder in holders):
                raise CodeError(f"{link} leads to a folder that holds it. Remove it.")
