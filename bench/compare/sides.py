"""The versions on one machine: a checkout of each revision, or an image each."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.errors import EngineError, FolderError, RequestError
from bench.launch.container import ContainerLauncher
from bench.launch.image import require_named
from bench.launch.job import Launcher
from bench.measure.machine import without_gits
from bench.records.cache import sha256_of

ROOT = PACKAGE.parent
WORKING_TREE = "."
IMAGE = "image:"
WHEELS = Path("docker") / "wheels"  # git ignores them, and an image's tag depends on them
RUNNING = ("bench", "docker")  # the folders that cells depend on
DIGITS = 12

Change = Callable[[Path], None]  # of a checkout, whose folder it is given


@dataclass(frozen=True)
class Side:
    """One of the versions, ready to run cells."""

    name: str  # such as base or head: its results folder
    asked: str
    root: Path  # the checkout whose `bench` runs its cells, launching side included
    image: str | None  # the tag, where images are compared
    identity: str  # differs where anything does that runs

    def command(self, *arguments: str) -> list[str]:
        image = ["--image", self.image] if self.image and arguments[0] == "run" else []
        return [sys.executable, "-m", "bench", *arguments, *image]

    def environment(self) -> dict[str, str]:
        """With this side's package before any other, also one that is installed."""
        return {**without_gits(os.environ), "PYTHONPATH": str(self.root), "PYTHONUTF8": "1"}


@contextmanager
def prepared(base: str, head: str, launcher: Launcher) -> Iterator[tuple[Side, Side]]:
    """Both sides; their checkouts are removed at the end, however it comes.

    Raises:
        RequestError: for a revision that git does not know, or an image beside a revision.
        EngineError: for images without a container engine.
        MissingError: for an image that is not there.
    """
    if base.startswith(IMAGE) != head.startswith(IMAGE):
        raise RequestError(
            f"ab compares two revisions or two images, not {base} with {head}: two things would "
            "differ at once. Give two of one kind."
        )
    if base.startswith(IMAGE):
        yield _image_side("base", base, launcher), _image_side("head", head, launcher)
        return
    for asked in (base, head):  # before anything is made
        _commit(asked)
    with _checkouts() as place:
        yield (
            _revision_side("base", base, place),
            _revision_side("head", head, place),
        )


@contextmanager
def changed(revision: str, changes: Mapping[str, Change]) -> Iterator[tuple[Side, ...]]:
    """One revision several times, in a checkout each; sides' names -> what is changed there.

    The working tree is copied: what a person writes meanwhile is in none of them.

    Raises:
        RequestError: for a revision that git does not know, or that cannot be changed so.
    """
    commit = _commit(revision)
    with _checkouts() as place:
        sides = []
        for name, change in changes.items():
            root = place / name
            _check_out(revision, commit, root)
            change(root)
            sides.append(_side(name, revision, commit, root))
        yield tuple(sides)


@contextmanager
def _checkouts() -> Iterator[Path]:
    """A folder for checkouts, which are removed at the end, however it comes."""
    with tempfile.TemporaryDirectory(prefix="bench-ab-") as place:
        try:
            yield Path(place)
        finally:
            for tree in Path(place).iterdir():
                with contextlib.suppress(RequestError):  # the first error is the one to tell
                    _git("worktree", "remove", "--force", "--force", str(tree))


def _image_side(name: str, asked: str, launcher: Launcher) -> Side:
    tag = asked.removeprefix(IMAGE)
    if not isinstance(launcher, ContainerLauncher):
        raise EngineError(f"{asked} needs a container engine. Give --runtime docker or podman.")
    image_id = require_named(launcher.engine, tag)
    return Side(name, asked, ROOT, tag, f"{image_id} {_files_sha256(ROOT)[:DIGITS]}")


def _revision_side(name: str, asked: str, place: Path) -> Side:
    commit, root = _commit(asked), ROOT
    if asked != WORKING_TREE:
        root = place / name
        _check_out(asked, commit, root)
    return _side(name, asked, commit, root)


def _side(name: str, asked: str, commit: str, root: Path) -> Side:
    if not (root / "bench").is_dir():
        raise RequestError(
            f"{asked} has no folder `bench`: it is no revision of this program. Name one."
        )
    return Side(name, asked, root, None, f"{commit[:DIGITS]} {_files_sha256(root)[:DIGITS]}")


def _check_out(asked: str, commit: str, root: Path) -> None:
    _git("worktree", "add", "--detach", str(root), commit)
    if asked == WORKING_TREE:
        _copy_working_tree(root)
    if (ROOT / WHEELS).is_dir() and not (root / WHEELS).exists():
        shutil.copytree(ROOT / WHEELS, root / WHEELS, copy_function=_link_or_copy)


def _copy_working_tree(root: Path) -> None:
    """What the working tree has of all that runs, in place of what its commit has."""
    for folder in RUNNING:
        shutil.rmtree(root / folder, ignore_errors=True)
    asked = ("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *RUNNING)
    for name in filter(None, _git(*asked).split("\0")):
        if (ROOT / name).is_file():  # or it was removed
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)


def _commit(asked: str) -> str:
    """The commit of a revision; that of the working tree, which may differ from it, for `.`."""
    revision = "HEAD" if asked == WORKING_TREE else asked
    try:
        return _git("rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}").strip()
    except RequestError as error:
        raise RequestError(
            f"git knows no revision {asked!r} in {ROOT}. Give a commit, a branch, a tag, or . for "
            "the working tree as it is; a shallow clone has few (git fetch --unshallow --tags)."
        ) from error


def _git(*arguments: str) -> str:
    try:
        answer = subprocess.run(
            ["git", "-C", str(ROOT), *arguments],
            env=without_gits(os.environ),
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C must not leave a checkout half made, or half removed
        )
    except OSError as error:
        raise RequestError(
            f"ab needs git to compare revisions: {error}. Install git, or compare two images."
        ) from error
    if answer.returncode != 0:
        reason = " ".join(answer.stderr.split())
        raise RequestError(f"git {arguments[0]} failed in {ROOT}: {reason}")
    return answer.stdout


def _link_or_copy(source: str, target: str) -> None:
    """A second name for a file of hundreds of MB, where both lie on one disk."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _files_sha256(root: Path) -> str:
    """SHA-256 over the paths and bytes of the whole package: the working tree has no commit."""
    files = (root / "bench").rglob("*.py")
    return sha256_of({file.relative_to(root).as_posix(): file.read_bytes() for file in files})


def check_same(folder: Path, sides: Sequence[Side]) -> None:
    """An interrupted `ab` goes on in its folder; another one is not mixed with it.

    Raises:
        FolderError: if the folder holds pairs of other versions.
    """
    note = folder / "versions.txt"
    today = "".join(f"{side.name} {side.identity}\n" for side in sides)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if note.exists() and note.read_text(encoding="utf-8") != today:
            raise FolderError(
                f"{folder} holds pairs of other versions (versions.txt tells which). Give another "
                "--out, or remove it."
            )
        note.write_text(today, encoding="utf-8")
    except OSError as error:
        raise FolderError(f"{folder} cannot be written: {error}. Give another --out.") from error
