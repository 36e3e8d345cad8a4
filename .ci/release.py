#!/usr/bin/env python3
"""Makes a release: version, changelog, commit, tag, images, a bundle of results, notes.

    make release VERSION=0.2.0 [MATRIX=bench/matrix/cpu.yaml] [DRY=1]

All of it is made in a clone, build/release/clone. Only what is complete comes back, commit and tag
at once: a release that fails or is interrupted leaves nothing here to undo. Nothing is pushed.
"""

import argparse
import csv
import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACE = ROOT / "build" / "release"
CLONE = PLACE / "clone"
NOTES = PLACE / "NOTES.md"
WHO = ("user.name", "user.email")
ENGINES = ("docker", "podman")
MATRIX = "bench/matrix/cpu.yaml"
VERSION_FILE, CHANGELOG, WHEELS = "bench/version.py", "CHANGELOG.md", "docker/wheels"
ASSIGNED = re.compile(r'^__version__ = "(.*)"$', re.MULTILINE)
UNRELEASED = re.compile(r"^## Unreleased\n(.*?)(?=^## |\Z)", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(\d+)\.(\d+)\.(\d+)")
IMAGE = re.compile(r"^(image|all in one): ([^\s,]+)", re.MULTILINE)
REFUSED, FAILED, INTERRUPTED = 2, 1, 130
UNDONE = "No release was made, and there is no tag. What was done is in build/release"


class Refused(Exception):  # noqa: N818  a finding, told as it is
    """The release cannot be made, and nothing was begun."""


class Failed(Exception):  # noqa: N818
    """A step of it did not succeed."""


@dataclass(frozen=True)
class Image:
    tag: str
    id: str


@dataclass(frozen=True)
class Release:
    """What was asked for, and what it is made of."""

    version: str
    matrix: str
    branch: str  # where it starts
    changes: str  # the changelog's section

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    @property
    def results(self) -> Path:
        return PLACE / Path(self.matrix).stem

    @property
    def bundle(self) -> Path:
        return PLACE / f"bench-{self.version}-{self.results.name}.tar.gz"


def main() -> int:
    asked = argparse.ArgumentParser()
    asked.add_argument("version")
    asked.add_argument("--matrix", default=MATRIX)
    asked.add_argument("--dry", action="store_true")
    given = asked.parse_args()
    try:
        release = checked(given.version, given.matrix)
        write_version(release)
        images = build_images(release)
        run_matrix(release, images)
        write_notes(release, images)
        git(CLONE, "tag", "--annotate", release.tag, f"--message=bench {release.version}")
        if given.dry:
            print(f"dry run: the release is in {CLONE.relative_to(ROOT)}, and nothing here changed")
        else:
            bring_back(release)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return REFUSED
    except (Failed, KeyboardInterrupt) as error:
        print(f"error: {error or 'interrupted'}. {UNDONE}", file=sys.stderr)
        return FAILED if isinstance(error, Failed) else INTERRUPTED
    tell(release, images)
    return 0


def checked(version: str, matrix: str) -> Release:
    """Everything that can be wrong, before anything is made."""
    wanted = number(version)
    if not wanted:
        raise Refused(f"VERSION={version} is no version. Give one such as VERSION=0.2.0")
    if changed := git(ROOT, "status", "--porcelain"):
        raise Refused(f"the working tree has changes. Commit or remove them first:\n{changed}")
    if not (branch := git(ROOT, "branch", "--show-current")):
        raise Refused("no branch is checked out, to which the release's commit could belong")
    tags = git(ROOT, "tag", "--list", "v*").splitlines()
    if f"v{version}" in tags:
        raise Refused(f"there is a tag v{version} already")
    found = ASSIGNED.search((ROOT / VERSION_FILE).read_text(encoding="utf-8"))
    assert found, f"{VERSION_FILE} states no version"
    newest = max((found[1], *(tag[1:] for tag in tags if number(tag[1:]))), key=number)
    if wanted <= number(newest):
        raise Refused(f"VERSION={version} is not larger than {newest}, which is there already")
    unreleased = UNRELEASED.search((ROOT / CHANGELOG).read_text(encoding="utf-8"))
    if not unreleased or not unreleased[1].strip():
        raise Refused(f'{CHANGELOG} says nothing under "## Unreleased": what is new?')
    if not git(ROOT, "ls-files", matrix):
        raise Refused(f"MATRIX={matrix} is no file of this repository, which the tag would hold")
    if not all(who()):
        raise Refused("git does not know who makes this commit: set user.name and user.email")
    engine()
    return Release(version, matrix, branch, unreleased[1].strip())


def number(version: str) -> tuple[int, ...]:
    """0.2.0 -> (0, 2, 0); of what is no version ()."""
    found = NUMBER.fullmatch(version)
    return tuple(map(int, found.groups())) if found else ()


def who() -> list[str]:
    """Name and address of whoever commits here; "" for what git does not know."""
    return [git(ROOT, "config", "--default=", key) for key in WHO]


def engine() -> str:
    """The container engine that `make` uses too."""
    asked = os.environ.get("RUNTIME") or "auto"
    for name in ENGINES:
        if asked in ("auto", name) and shutil.which(name) and answers(name):
            return name
    raise Refused(
        f"RUNTIME={asked}: no container engine answers, and the rows of a release say which image "
        "ran. Start one (docker/engine.sh start)"
    )


def answers(engine: str) -> bool:
    ended = subprocess.run([engine, "version"], capture_output=True, check=False)
    return ended.returncode == 0


def write_version(release: Release) -> None:
    """The clone, with the commit that the release is."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    git(ROOT, "clone", "--quiet", "--branch", release.branch, str(ROOT), str(CLONE))
    for key, value in zip(WHO, who(), strict=True):
        git(CLONE, "config", key, value)
    if (ROOT / WHEELS).exists():
        shutil.copytree(ROOT / WHEELS, CLONE / WHEELS, copy_function=os.link)
    today = datetime.datetime.now(datetime.UTC).date()
    headed = f"## Unreleased\n\n## {release.version} ({today})\n\n{release.changes}\n"
    replace(CHANGELOG, UNRELEASED, headed)
    replace(VERSION_FILE, ASSIGNED, f'__version__ = "{release.version}"')
    git(CLONE, "commit", "--quiet", "--all", f"--message=Version {release.version}")


def replace(name: str, pattern: re.Pattern[str], text: str) -> None:
    file = CLONE / name
    before = file.read_text(encoding="utf-8")
    rest = pattern.search(before)
    assert rest
    apart = "\n" if before[rest.end() :].startswith("## ") else ""
    file.write_text(before[: rest.start()] + text + apart + before[rest.end() :], encoding="utf-8")


def build_images(release: Release) -> list[Image]:
    """Of this commit: the one that cells run in, then the one with the program in it."""
    said = make("image-cpu", f"MATRIX={release.matrix}")
    tags = [found[2] for found in IMAGE.finditer(said)]
    inspect = (engine(), "image", "inspect", "--format", "{{.Id}}")
    return [Image(tag, run(*inspect, tag)) for tag in tags]


def run_matrix(release: Release, images: list[Image]) -> None:
    """The bundle of its runs, each by the image that was built, of the commit that is tagged."""
    make("bench-cpu", f"MATRIX={release.matrix}", f"OUT={release.results}")
    with (release.results / "runs.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    commit = git(CLONE, "rev-parse", "HEAD")
    for column, wanted in (("image_id", images[0].id), ("git_commit", commit)):
        if others := {row[column] for row in rows} - {wanted}:
            raise Failed(f"rows have {column} {', '.join(sorted(others))!r} instead of {wanted}")
    make("artifact", f"DIR={release.results}", f"OUT={release.bundle}")


def write_notes(release: Release, images: list[Image]) -> None:
    sha256 = hashlib.sha256(release.bundle.read_bytes()).hexdigest()
    shown = "\n".join(f"| `{image.tag}` | `{image.id}` |" for image in images)
    NOTES.write_text(
        f"""# bench {release.version}

{release.changes}

## Results

`{release.bundle.name}` has the runs of `{release.matrix}` and their report. Its SHA-256:

    {sha256}

To check it, at this tag:

    sha256sum {release.bundle.name}
    make setup && .venv/bin/bench verify {release.bundle.name}

## Images

| image | id |
|---|---|
{shown}

In the first one the cells ran: its id is the `image_id` of every row. It stays the same when an
image is pushed and pulled: `{engine()} image inspect --format '{{{{.Id}}}}' IMAGE` prints it.
""",
        encoding="utf-8",
    )


def bring_back(release: Release) -> None:
    """Commit and tag, both or neither; neither where the branch or its files have changed."""
    receive = "git -c receive.denyCurrentBranch=updateInstead receive-pack"
    refs = (f"HEAD:refs/heads/{release.branch}", f"refs/tags/{release.tag}")
    git(CLONE, "push", "--quiet", "--atomic", f"--receive-pack={receive}", str(ROOT), *refs)


def tell(release: Release, images: list[Image]) -> None:
    print(f"notes: {NOTES.relative_to(ROOT)}\nbundle: {release.bundle.relative_to(ROOT)}")
    print("Nothing was pushed. To publish:")
    print(f"    git push origin {release.branch} {release.tag}")
    for image in images:
        print(f"    {engine()} push {image.tag}    (tagged with your registry's name)")
    print("    and the notes with the bundle where releases are shown")


def make(*words: str) -> str:
    """A target in the clone; what it said, which is shown as well."""
    command = ["make", "--no-print-directory", *words]
    print("+", *command, flush=True)
    said = []
    with subprocess.Popen(
        command, cwd=CLONE, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
            said.append(line)
    if process.returncode != 0:
        raise Failed(f"{' '.join(command)} ended with exit code {process.returncode}")
    return "".join(said)


def git(where: Path, *words: str) -> str:
    return run("git", "-C", str(where), *words)


def run(*command: str) -> str:
    """What a program printed."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        raise Failed(f"{' '.join(command)} failed: {answer.stderr.strip()}")
    return answer.stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
