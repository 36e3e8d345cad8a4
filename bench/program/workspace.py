"""The folder that a program runs in: its own copy, with replacements, files and data in place."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.border.program import Program

# Inode, size, and times of content and of any change at all: what no writing leaves as they are.
Print = tuple[int, int, int, int]


class WorkspaceError(Exception):
    """A program cannot be laid out as its matrix asks, or has changed what it may only read."""


class Workspace:
    """CELL/program, where the program runs, and CELL/out, which `{out}` stands for."""

    def __init__(self, cell: Path, code: Path, data: Mapping[str, Path]) -> None:
        self.folder = cell.resolve() / "program"
        self.out = cell.resolve() / "out"
        self.code = code
        self.data = data
        self._placed: dict[Path, Print] = {}
        self._read: dict[Path, tuple[int, int]] = {}

    def lay_out(self, program: Program) -> None:
        """
        Raises:
            WorkspaceError: if a replacement or a path is not as it must be.
        """
        self.out.mkdir()
        _copy(self.code, self.folder)
        for file, pairs in program.replace.items():
            _replace(self._inside(file), file, pairs)
        for file, content in program.files.items():
            target = self._inside(file)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(content, encoding="utf-8")
        for name, source in self.data.items():
            self._link(source, self._inside(f"data/{name}"))
        self._placed = {path: _print(path) for path in _files(self.folder)}

    def clean_up(self) -> None:
        """Leave what the program wrote: no file that is as it was laid out, no link to data."""
        for path in _files(self.folder):
            with contextlib.suppress(OSError):  # it may be in a folder that the program closed
                if path.is_symlink() or self._placed.get(path) == _print(path):
                    path.unlink()
        for folder in (self.folder, self.out):
            for inner, _, _ in os.walk(folder, topdown=False):
                with contextlib.suppress(OSError):  # it is not empty
                    os.rmdir(inner)

    def check_data(self) -> None:
        """
        Raises:
            WorkspaceError: if a file of the data is not what it was.
        """
        for path, before in self._read.items():
            if not path.exists() or _size_and_time(path) != before:
                raise WorkspaceError(
                    f"it changed its data, which other cells read as well: {path}. Let it write "
                    "into its own folder or into {out}"
                )

    def _inside(self, name: str) -> Path:
        path = (self.folder / name).resolve()
        if self.folder not in path.parents:
            raise WorkspaceError(f"{name!r} leads out of the program's folder: give a path in it")
        return path

    def _link(self, source: Path, target: Path) -> None:
        """Real folders with links to files, so that a program may write beside its data."""
        for path in [source] if source.is_file() else _files(source):
            self._read[path] = _size_and_time(path)
            link = target / path.relative_to(source) if path != source else target
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(path.absolute())


def _copy(source: Path, folder: Path) -> None:
    """Writable and executable: what we are given is read-only, and holds contents, no modes."""
    shutil.copytree(source, folder, symlinks=True, copy_function=shutil.copy)
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(path.stat().st_mode | 0o700)


def _replace(path: Path, file: str, pairs: Mapping[str, str]) -> None:
    content = path.read_bytes()
    for old, new in pairs.items():
        if (count := content.count(old.encode())) != 1:
            raise WorkspaceError(
                f"replace: {old!r} stands {count} times in {file}, and must stand there once. "
                "Give more of the text around it"
            )
        content = content.replace(old.encode(), new.encode())
    path.write_bytes(content)


def _files(folder: Path) -> Iterator[Path]:
    """All that is no folder, links to folders included."""
    for place, folders, files in os.walk(folder):
        linked = [name for name in folders if Path(place, name).is_symlink()]
        yield from (Path(place, name) for name in (*files, *linked))


def _print(path: Path) -> Print:
    found = path.lstat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _size_and_time(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_size, found.st_mtime_ns
