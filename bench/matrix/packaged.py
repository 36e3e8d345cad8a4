"""The matrices that come along: read by name wherever the program is, also in an image."""

from pathlib import Path

FOLDER = Path(__file__).parent
NAMES = tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def paths_start_at(file: Path) -> Path:
    """The folder where relative paths in a matrix start: its own.

    One that comes along lies where nobody has data: of it, the current folder.
    """
    return Path() if file.parent == FOLDER else file.parent


def matrix_file(asked: Path) -> Path:
    """The file that was asked for: one of the caller's, else the one that comes along so named."""
    return FOLDER / f"{asked}.yaml" if str(asked) in NAMES and not asked.is_file() else asked
