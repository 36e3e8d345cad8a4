"""What compilers have made of our own code, kept for later cells in the cache.

It holds pickles and libraries, which are a worker's to read: this side copies files. Each cell
works on a copy of its own; what is new there is kept only of cells whose code is all ours. Beside
each folder lies its index, {path: SHA-256}: half a library would end every later cell.
"""

import contextlib
import fnmatch
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock

from bench.border.atomic import write_atomically
from bench.border.identity import digest
from bench.errors import CacheError
from bench.records.cache import cache_folder

# Of everything kept. A nano model takes 2 MiB, so that a hundred fit, with those of older code;
# each cell copies what is kept of its own kind before it starts.
MOST_BYTES = 256 * 2**20
LOCK_TIMEOUT_S = 60.0  # a cell holds it for as long as files are copied
# What was fastest as a cell tried it, of Triton's kernels and of torch's `max_autotune`: timings,
# which something beside that cell may have spoilt for all later ones. Each cell tries it itself.
CHOICES = ("*.best_config", "cache/*")


@dataclass(frozen=True)
class CompiledCode:
    """Of one environment, code and kind of processor: files by their paths in a folder."""

    folder: Path

    @classmethod
    def of(cls, **alike: str | None) -> "CompiledCode":
        """What was compiled where all of these were the same."""
        return cls(cache_folder() / "compiled" / digest(alike))

    @property
    def _index(self) -> Path:
        return self.folder.with_suffix(".json")

    def copy_to(self, place: Path) -> None:
        """All of it, into a folder that does not exist yet; nothing of it if a part is damaged.

        Raises:
            CacheError: if the cache or the place cannot be written.
        """
        with self._locked():
            self.folder.mkdir(exist_ok=True)
            os.utime(self.folder)  # what was used last is dropped last
            shutil.copytree(self.folder, place)
            if _sha256s(place) != self._indexed():
                self._drop()
                discard(place)
                place.mkdir()

    def keep(self, place: Path) -> None:
        """Files that a cell has added to its copy, unless they are more than may be kept at all.

        No choices by timing, which are each cell's own. One that is here already stays what it is.

        Raises:
            CacheError: if one cannot be written; then what is here no longer fits its index.
        """
        with self._locked():
            new = {
                name: size
                for name, size in _files(place)
                if not (self.folder / name).exists()
                and not any(fnmatch.fnmatchcase(name, choices) for choices in CHOICES)
            }
            for_bytes = sum(new.values())
            if for_bytes > MOST_BYTES:
                return
            self._make_room(for_bytes)
            for name in new:
                (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_atomically(self.folder / name, (place / name).read_bytes())
            index = self._indexed() | _sha256s(place, new)
            write_atomically(self._index, json.dumps(index, indent=1).encode())

    def _indexed(self) -> dict[str, str]:
        """{path: SHA-256} of what is here, as it was kept; nothing if that is not known."""
        try:
            index: dict[str, str] = json.loads(self._index.read_bytes())
        except (FileNotFoundError, ValueError):
            return {}
        return index

    def _drop(self) -> None:
        shutil.rmtree(self.folder)
        self._index.unlink(missing_ok=True)

    def _make_room(self, for_bytes: int) -> None:
        """Drop what was used longest ago, and at last what is here, until it may be kept."""
        kept = [folder for folder in self.folder.parent.iterdir() if folder.is_dir()]
        kept.sort(key=lambda folder: (folder == self.folder, folder.stat().st_mtime))
        sizes = {folder: sum(size for _, size in _files(folder)) for folder in kept}
        for folder in kept:
            if sum(sizes.values()) + for_bytes <= MOST_BYTES:
                break
            CompiledCode(folder)._drop()
            del sizes[folder]

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Alone with all that is kept, among the cells of every runner.

        Raises:
            CacheError: if that cannot be, or nothing can be read or written there.
        """
        place = self.folder.parent
        try:
            place.mkdir(parents=True, exist_ok=True)
            with filelock.FileLock(place / ".lock", timeout=LOCK_TIMEOUT_S):
                yield
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            raise CacheError(
                f"what was compiled cannot be kept in {place}: {error}. Set BENCH_CACHE to a "
                "folder that can be written and locked, or limits.compile_cache to none."
            ) from error


def check_writable() -> None:
    """Before cells run that are to find or keep something.

    Raises:
        CacheError: if nothing can be kept.
    """
    code = CompiledCode.of()
    with code._locked(), tempfile.TemporaryFile(dir=code.folder.parent):
        pass


def discard(place: Path) -> None:
    """A cell's copy, with whatever it left there; of a link the link alone."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _sha256s(place: Path, names: Iterable[str] | None = None) -> dict[str, str]:
    """{path: SHA-256} of these files in a folder; of all that it has where none are named."""
    found = names if names is not None else (name for name, _ in _files(place))
    return {name: hashlib.sha256((place / name).read_bytes()).hexdigest() for name in found}


def _files(place: Path) -> Iterator[tuple[str, int]]:
    """Path within a folder, and bytes, of plain files: no links, no pipes, nothing half written."""
    for where, _, names in [] if place.is_symlink() else os.walk(place):
        for path in (Path(where, name) for name in names if name[0] != "."):
            if stat.S_ISREG((found := path.lstat()).st_mode):
                yield str(path.relative_to(place)), found.st_size
