"""`make release`: what it refuses, what it leaves, and that a failing one leaves nothing."""

import hashlib
import os
import re
import subprocess
from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.records.rows import read_table
from tests.builders.clones import git, link_wheels, make_repository
from tests.builders.containers import ENGINES, with_image
from tests.builders.shared import without
from tests.builders.workflow import KEPT

FILES = (".ci/release.py", "bench/version.py", "CHANGELOG.md", ".gitignore")
# The steps of a release by what they leave. {broken} fails; {image} is in the rows.
MAKE = """\
#!/bin/sh
for word in "$@"; do case "$word" in OUT=*) out=${{word#OUT=}} ;; esac; done
case " $* " in
  *" {broken} "*) exit 2 ;;
  *" image-cpu "*)
    echo "image: bench-cpu:1 (built before)"; echo "all in one: bench:cpu-1, bench:cpu" ;;
  *" bench-cpu "*)
    mkdir -p "$out"
    printf 'image_id,git_commit\\n{image},%s\\n' "$(git rev-parse HEAD)" >"$out/runs.csv" ;;
  *" artifact "*) echo a bundle >"$out" ;;
esac
"""
DOCKER = """\
#!/bin/sh
for word in "$@"; do tag=$word; done
case "$1" in image) echo "id-of-$tag" ;; esac
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Version 0.1.0 with something new; an engine and a make that are stand-ins."""
    place = make_repository(tmp_path / "repository", FILES)
    (place / "bench" / "version.py").write_text('"""Which."""\n\n__version__ = "0.1.0"\n')
    (place / "CHANGELOG.md").write_text(
        "# Changelog\n\n## Unreleased\n\n- A.\n\n## 0.1.0\n\n- B.\n"
    )
    for key in ("name", "email"):
        git(place, "config", f"user.{key}", f"a@{key}")
    git(place, "commit", "--quiet", "--all", "--message=new")
    write_programs(tmp_path)
    return place


def write_programs(place: Path, broken: str = "none", image: str = "id-of-bench-cpu:1") -> None:
    programs = place / "programs"
    programs.mkdir(exist_ok=True)
    for name, text in {"make": MAKE.format(broken=broken, image=image), "docker": DOCKER}.items():
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)


def release(where: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    programs = where.parent / "programs"
    return subprocess.run(
        ["python3", ".ci/release.py", *words],
        cwd=where,
        env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def state(where: Path) -> tuple[str, str, str]:
    """What a release could change."""
    return git(where, "rev-parse", "HEAD"), git(where, "tag"), git(where, "status", "--porcelain")


def test_a_release_is_a_commit_with_a_tag_a_bundle_and_notes(repository: Path) -> None:
    before = state(repository)[0]
    answer = release(repository, "0.2.0")
    assert answer.returncode == 0, answer.stderr
    assert git(repository, "rev-parse", "v0.2.0^").strip() == before.strip()
    assert git(repository, "rev-parse", "v0.2.0^{commit}") == git(repository, "rev-parse", "main")
    assert git(repository, "status", "--porcelain") == ""
    assert '__version__ = "0.2.0"\n' in (repository / "bench" / "version.py").read_text()
    changelog = re.sub(r"20\d\d-\d\d-\d\d", "today", (repository / "CHANGELOG.md").read_text())
    sections = ("# Changelog", "## Unreleased", "## 0.2.0 (today)", "- A.", "## 0.1.0", "- B.\n")
    assert changelog == "\n\n".join(sections)
    notes = (repository / "build" / "release" / "NOTES.md").read_text()
    sha256 = hashlib.sha256(b"a bundle\n").hexdigest()
    for told in ("# bench 0.2.0\n\n- A.\n", sha256, "`id-of-bench-cpu:1`", "`id-of-bench:cpu-1`"):
        assert told in notes
    assert "git push origin main v0.2.0" in answer.stdout
    assert "Nothing was pushed" in answer.stdout


def test_the_next_release_follows_the_last(repository: Path) -> None:
    assert release(repository, "0.2.0").returncode == 0
    assert 'nothing under "## Unreleased"' in release(repository, "0.3.0").stderr
    text = (repository / "CHANGELOG.md").read_text()
    (repository / "CHANGELOG.md").write_text(text.replace("Unreleased\n", "Unreleased\n\n- C.\n"))
    git(repository, "commit", "--quiet", "--all", "--message=more")
    assert "0.2.0" in release(repository, "0.1.9").stderr
    assert release(repository, "0.3.0").returncode == 0
    assert (
        "# bench 0.3.0\n\n- C.\n\n## Results"
        in (repository / "build" / "release" / "NOTES.md").read_text()
    )


def test_a_dry_run_makes_the_same_and_changes_nothing(repository: Path) -> None:
    before = state(repository)
    answer = release(repository, "0.2.0", "--dry")
    assert answer.returncode == 0, answer.stderr
    assert state(repository) == before
    clone = repository / "build" / "release" / "clone"
    assert git(clone, "tag", "--points-at", "HEAD") == "v0.2.0\n"
    assert "dry run" in answer.stdout


@pytest.mark.parametrize(
    ("words", "spoil", "told"),
    [
        (("0.2",), "", "VERSION=0.2 is no version"),
        (("",), "", "VERSION= is no version"),
        (("0.1.0",), "", "VERSION=0.1.0 is not larger than 0.1.0"),
        (("0.0.9",), "", "VERSION=0.0.9 is not larger than 0.1.0"),
        (("0.2.0",), "git tag v0.2.0", "there is a tag v0.2.0 already"),
        (("0.9.0",), "git tag v0.10.0", "VERSION=0.9.0 is not larger than 0.10.0"),
        (("0.2.0",), "echo >>CHANGELOG.md", "the working tree has changes"),
        (("0.2.0",), "touch new", "the working tree has changes"),
        (("0.2.0",), "git checkout --quiet --detach", "no branch is checked out"),
        (("0.2.0", "--matrix", "mine.yaml"), "", "MATRIX=mine.yaml is no file of this repository"),
        (("0.2.0",), "git config --unset user.name", "git does not know who makes this commit"),
        (("0.2.0",), "echo '#!/bin/false' >../programs/docker", "no container engine answers"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_made(
    repository: Path, words: tuple[str, ...], spoil: str, told: str
) -> None:
    subprocess.run(["sh", "-ec", spoil], cwd=repository, check=True)
    before = state(repository)
    answer = release(repository, *words, RUNTIME="docker")
    assert answer.returncode == 2
    assert told in answer.stderr
    assert state(repository) == before
    assert not (repository / "build").exists()


@pytest.mark.parametrize("broken", ["image-cpu", "bench-cpu", "artifact"])
def test_a_release_that_fails_leaves_nothing_to_undo(repository: Path, broken: str) -> None:
    write_programs(repository.parent, broken)
    before = state(repository)
    answer = release(repository, "0.2.0")
    assert answer.returncode == 1
    assert f"make --no-print-directory {broken}" in answer.stderr
    assert "No release was made, and there is no tag" in answer.stderr
    assert state(repository) == before
    write_programs(repository.parent)
    assert release(repository, "0.2.0").returncode == 0


def test_a_branch_that_went_on_meanwhile_gets_neither_commit_nor_tag(repository: Path) -> None:
    """Somebody commits while the matrix runs: the stand-in for the last step of it."""
    make = repository.parent / "programs" / "make"
    there = f"git -C {repository} -c user.name=b -c user.email=b commit --quiet --allow-empty -m b"
    make.write_text(f"{make.read_text()}{there}\n")
    answer = release(repository, "0.2.0")
    assert answer.returncode == 1
    assert "No release was made, and there is no tag" in answer.stderr
    assert git(repository, "log", "-1", "--format=%s") == "b\n"
    assert git(repository, "tag") == "v0.0.1\n"


def test_rows_of_another_image_are_no_release(repository: Path) -> None:
    write_programs(repository.parent, image="another")
    before = state(repository)
    answer = release(repository, "0.2.0")
    assert answer.returncode == 1
    assert "rows have image_id 'another' instead of id-of-bench-cpu:1" in answer.stderr
    assert state(repository) == before


@pytest.mark.slow
def test_a_dry_run_with_real_images_cells_and_bundle(origin: Path, tmp_path: Path) -> None:
    """`make release` itself; the clone sets up its own .venv."""
    name = next((name for name in ENGINES if Engine(name).why_not() is None), None)
    engine = with_image(name) if name else without("no container engine answers")
    here = tmp_path / "here"
    git(tmp_path, "clone", "--quiet", str(origin), str(here))
    link_wheels(here)
    for key in ("name", "email"):
        git(here, "config", f"user.{key}", f"a@{key}")
    before = state(here)
    around = {key: value for key, value in os.environ.items() if KEPT.fullmatch(key)}
    around |= {"HOME": str(tmp_path), "RUNTIME": engine.name}
    answer = subprocess.run(
        ["make", "release", "VERSION=99.0.0", "DRY=1"],
        cwd=here,
        env=around,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout[-3000:] + answer.stderr
    assert state(here) == before
    place = here / "build" / "release"
    rows = read_table(place / "cpu" / "runs.csv")
    assert {row["status"] for row in rows} == {"ok"}
    assert {row["git_commit"] for row in rows} == {
        git(place / "clone", "rev-parse", "v99.0.0^{commit}").strip()
    }
    notes = (place / "NOTES.md").read_text()
    assert rows[0]["image_id"] in notes
    (bundle,) = place.glob("*.tar.gz")
    assert hashlib.sha256(bundle.read_bytes()).hexdigest() in notes
    verify = [place / "clone" / ".venv" / "bin" / "bench", "verify", bundle]
    verified = subprocess.run(
        verify, cwd=tmp_path, env=around, capture_output=True, text=True, check=False
    )
    assert verified.returncode == 0, verified.stdout
    assert "the report of version 99.0.0 follows from the CSVs" in verified.stdout
