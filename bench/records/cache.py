"""The cache: texts, tokens and brought code, each under a name that is the SHA-256 of its content.

An entry is one file, or a folder with several: {path within it: content}, "" for the file itself.
"""

import contextlib
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.errors import CacheError


def cache_folder() -> Path:
    """$BENCH_CACHE, else the user's cache folder.

    Raises:
        CacheError: if there is neither.
    """
    if own := os.environ.get("BENCH_CACHE"):
        return Path(own).absolute()
    if users := os.environ.get("XDG_CACHE_HOME"):
        return Path(users) / "bench"
    try:
        return Path.home() / ".cache" / "bench"
    except RuntimeError as error:  # neither HOME nor an entry in /etc/passwd
        raise CacheError(
            "there is no home folder to keep a cache in. Set BENCH_CACHE to a folder."
        ) from error


def names_in(path: Path) -> Iterator[str]:
    """Paths of the files in a folder, however deep, without hidden and compiled ones; else ""."""
    if not path.is_dir():
        yield ""
    for where, _, names in walk(path):
        files = (where / name for name in names)
        yield from (file.relative_to(path).as_posix() for file in files if file.is_file())


def walk(path: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    """(where, folders, names) of a folder and those below it, links followed, nothing hidden."""
    for where, folders, names in os.walk(path, followlinks=True):
        folders[:] = [each for each in folders if each != "__pycache__" and each[0] != "."]
        yield Path(where), folders, [name for name in names if name[0] != "."]


def sha256_of(files: Mapping[str, bytes]) -> str:
    """Of one file its SHA-256; of several one over their names and bytes."""
    if files.keys() == {""}:
        return hashlib.sha256(files[""]).hexdigest()
    total = hashlib.sha256()
    for name, content in sorted(files.items()):
        line = f"{name} {hashlib.sha256(content).hexdigest()}\n"
        total.update(line.encode(errors="surrogateescape"))  # a name may be no UTF-8
    return total.hexdigest()


def store(path: Path, load: Callable[[], Mapping[str, bytes]]) -> Path:
    """The entry at a path, loaded and written if it is not there or not whole.

    Raises:
        CacheError: if it cannot be written.
    """
    try:
        if not is_whole(path):
            files = load()
            for name in set(names_in(path)) - files.keys():
                (path / name).unlink(missing_ok=True)
            for name, content in files.items():
                _put(path / name, content)
    except OSError as error:
        raise CacheError(
            f"the cache {cache_folder()} cannot be written: {error.strerror}. "
            "Set BENCH_CACHE to a folder that can."
        ) from error
    # A container reads it as another user. Where it is not ours, who put it there saw to that.
    with contextlib.suppress(OSError):
        for where, _, _ in os.walk(path):
            os.chmod(where, 0o755)
        if path.is_file():
            path.chmod(0o644)
    return path


def remembered(told: str, compute: Callable[[], str]) -> str:
    """A hash of data of the user's, computed once.

    It is remembered under what tells the data apart: their names, sizes and times. Where nothing
    can be written it is computed again next time.
    """
    note = cache_folder() / "data" / hashlib.sha256(told.encode()).hexdigest()
    with contextlib.suppress(OSError):
        return note.read_text(encoding="utf-8")
    found = compute()
    with contextlib.suppress(OSError):
        _put(note, found.encode())
    return found


def _put(path: Path, content: bytes) -> None:
    """A file in place whole, whoever else puts it there.

    Runners of other hosts and containers share a cache, and may have our process number, by which
    `write_atomically` names what is not whole yet: so that is in a folder of its own.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as own:
        whole = Path(own, path.name)
        write_atomically(whole, content, mode=0o644)
        whole.replace(path)


def is_whole(path: Path) -> bool:
    """Whether an entry is there, and is what its name says."""
    try:
        return _found(path) == _named(path)
    except OSError:
        return False


def check_stored(path: Path, what: str) -> None:
    """An entry is still what `store` left: before each cell, which reads it.

    Raises:
        CacheError: if it is gone or another; the message begins with `what` it is.
    """
    again = "Run again: it is stored anew from its source."
    try:
        found = _found(path)
    except OSError as error:
        raise CacheError(
            f"{what}: {path} cannot be read any more: {error.strerror}. {again}"
        ) from error
    if found != _named(path):
        raise CacheError(
            f"{what}: {path} changed while cells ran: its SHA-256 is {found}, not {_named(path)}. "
            f"{again}"
        )


def _found(path: Path) -> str:
    return sha256_of({name: (path / name).read_bytes() for name in names_in(path)})


def _named(path: Path) -> str:
    return path.name.partition(".")[0]
