"""GitHub's own actions by what they promise: what a job finds after each, and what each refuses."""

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet

from tests.builders.shared import ROOT

PAGES = "github-pages"  # the artifact's name, and the environment's
PAGE_URL = "https://somebody.github.io/bench/"
WRAPPER = '#!/bin/sh\nexec "{python}" "$@"\n'

Given = Mapping[str, Any]
Outputs = dict[str, Any]


class ActionError(AssertionError):
    """An action that fails its step."""


@dataclass
class Desk:
    """What a job's actions work on: its folders, and what is around them."""

    job: Mapping[str, Any]  # as the workflow has it
    place: Path  # its own: the clone, home, temporary files
    server: Path  # what outlives it: caches, artifacts, the site
    origin: Path  # the repository to clone
    commit: str
    furnish: Callable[[Path], None]  # brings to a clone what a machine has
    path: list[str] = field(default_factory=list)  # goes before PATH, the last one first
    at_end: list[Callable[[], None]] = field(default_factory=list)  # once a job has succeeded

    def __post_init__(self) -> None:
        for folder in (self.workspace, self.temporary, self.home):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def workspace(self) -> Path:
        return self.place / "bench"

    @property
    def temporary(self) -> Path:
        return self.place / "temporary"

    @property
    def home(self) -> Path:
        return self.place / "home"

    def artifact(self, name: str) -> Path:
        return self.server / "artifacts" / name

    @property
    def site(self) -> Path:
        return self.server / "site"


def checkout(desk: Desk, given: Given) -> Outputs:
    _only(given, "fetch-depth", "persist-credentials", "ref")
    depth = int(given.get("fetch-depth", 1))
    commit = given.get("ref") or desk.commit
    whole = depth == 0
    git = ["git", "-C", str(desk.workspace)]
    for command in (
        ["git", "init", "--quiet", str(desk.workspace)],
        [*git, "remote", "add", "origin", desk.origin.as_uri()],
        [
            *[*git, "fetch", "--quiet", *(["--tags"] if whole else ["--no-tags"])],
            *([] if whole else [f"--depth={depth}"]),
            *["origin", *(["+refs/heads/*:refs/remotes/origin/*"] if whole else []), commit],
        ],
        [*git, "checkout", "--quiet", "--detach", commit],
    ):
        subprocess.run(command, check=True)
    if given.get("persist-credentials", True) not in (False, "false"):
        header = "AUTHORIZATION: basic a-token"
        key = "http.https://github.com/.extraheader"
        subprocess.run([*git, "config", key, header], check=True)
    desk.furnish(desk.workspace)
    return {}


def setup_python(desk: Desk, given: Given) -> Outputs:
    """The Python of these tests, whichever was asked for; one that the program runs on."""
    _only(given, "python-version")
    wanted = given["python-version"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    if wanted not in SpecifierSet(project["requires-python"]):
        raise ActionError(f"Python {wanted} is not among {project['requires-python']}")
    programs = desk.temporary / "python"
    programs.mkdir(exist_ok=True)
    for name in ("python", "python3"):
        (programs / name).write_text(WRAPPER.format(python=sys._base_executable))  # type: ignore[attr-defined]
        (programs / name).chmod(0o755)
    desk.path.append(str(programs))
    return {"python-version": platform.python_version()}


def cache(desk: Desk, given: Given) -> Outputs:
    """One folder by its key alone: `restore-keys` would bring what another key holds."""
    _only(given, "path", "key")
    kept = desk.server / "caches" / hashlib.sha256(given["key"].encode()).hexdigest()
    folder = Path(given["path"].replace("~", str(desk.home), 1))
    hit = kept.exists()
    if hit:
        shutil.copytree(kept, folder, dirs_exist_ok=True)

    def keep() -> None:
        if folder.exists() and not hit:
            shutil.copytree(folder, kept)

    desk.at_end.append(keep)
    return {"cache-hit": hit}


def upload_artifact(desk: Desk, given: Given) -> Outputs:
    """A line of `path` each; of several, what all lie in is the artifact's root."""
    _only(given, "name", "path", "if-no-files-found")
    target = desk.artifact(given["name"])
    sources = [desk.workspace / line for line in given["path"].split()]
    root = Path(os.path.commonpath(sources))
    found = [file for source in sources for file in _files_at(source)]
    if not found and given.get("if-no-files-found", "warn") == "error":
        raise ActionError(f"there are no files at {', '.join(given['path'].split())}")
    if target.exists():
        raise ActionError(f"this run has an artifact {given['name']!r} already")
    for file in found:
        copy = target / (file.relative_to(root) if file != root else file.name)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(file, copy)
    return {}


def upload_pages_artifact(desk: Desk, given: Given) -> Outputs:
    _only(given, "path")
    folder = desk.workspace / given["path"]
    if not (folder / "index.html").is_file():
        raise ActionError(f"there is no site at {given['path']}")
    if links := [str(path) for path in folder.rglob("*") if path.is_symlink()]:
        raise ActionError(f"a site must not have links: {links}")
    archive = desk.artifact(PAGES) / "artifact.tar"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as tar:
        tar.add(folder, ".")
    return {}


def deploy_pages(desk: Desk, given: Given) -> Outputs:
    _only(given)
    needed = {"pages": "write", "id-token": "write"}
    if desk.job.get("permissions") != needed:
        raise ActionError(f"the job's permissions must be {needed}")
    if desk.job.get("environment", {}).get("name") != PAGES:
        raise ActionError(f"the job's environment must be {PAGES}")
    archive = desk.artifact(PAGES) / "artifact.tar"
    if not archive.exists():
        raise ActionError(f"this run has no artifact {PAGES!r}")
    with tarfile.open(archive) as tar:
        tar.extractall(desk.site, filter="data")
    return {"page_url": PAGE_URL}


ACTIONS: dict[str, Callable[[Desk, Given], Outputs]] = {
    "actions/checkout": checkout,
    "actions/setup-python": setup_python,
    "actions/cache": cache,
    "actions/upload-artifact": upload_artifact,
    "actions/upload-pages-artifact": upload_pages_artifact,
    "actions/deploy-pages": deploy_pages,
}


def hash_files(folder: Path, patterns: Sequence[str]) -> str:
    """GitHub's hashFiles(), which gives an empty text where no file is found: here an error."""
    digest = hashlib.sha256()
    for pattern in patterns:
        found = sorted(folder.glob(pattern))
        assert found, f"hashFiles: {pattern} names no file of {folder.name}"
        for file in found:
            digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _only(given: Given, *known: str) -> None:
    if others := set(given) - set(known):
        raise ActionError(f"these inputs are not known here: {sorted(others)}")


def _files_at(source: Path) -> list[Path]:
    return [source] if source.is_file() else list(_without_hidden(source))


def _without_hidden(folder: Path) -> Iterator[Path]:
    """The files below a folder, but for those whose path has a part that begins with a dot."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not any(part[0] == "." for part in path.relative_to(folder).parts):
            yield path
