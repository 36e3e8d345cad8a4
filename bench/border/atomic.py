"""Put a file in place whole: after a crash it holds the old content or the new, never a part."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write_atomically(path: Path, content: str | bytes, mode: int | None = None) -> None:
    """Replace `path` by `content` (text as UTF-8, line feeds as they are), on the disk on return.

    `mode`: its permissions, where others than the user's default are needed.
    """
    data = content.encode("utf-8") if isinstance(content, str) else content
    with replacing(path, lambda: path, mode) as file:
        file.write(data)


@contextmanager
def replacing(
    path: Path, becomes: Callable[[], Path], mode: int | None = None
) -> Iterator[BinaryIO]:
    """A file to be written in the block, which on its end is `becomes()`, in path's folder.

    Nothing is left of it where the block fails.
    """
    # Of a name that nobody knows before: processes of two hosts write beside each other in a shared
    # folder, and a worker, who owns its cell's, plants no link there. One that it planted all the
    # same is refused ("x" is O_CREAT | O_EXCL, which follows no link).
    partial = path.with_name(f".{path.name}.{os.urandom(8).hex()}.partial")
    try:
        with partial.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(becomes())
    finally:
        partial.unlink(missing_ok=True)
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make a rename survive a power cut: a file's name lives in its folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
