"""The program in environments that are not ours: other locales, a notebook's, nobody's home."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from bench.cli.common import PLAIN
from bench.errors import CacheError
from bench.measure import machine
from bench.records.cache import cache_folder
from bench.records.rows import read_table
from bench.run import progress
from tests.builders.shared import ROOT, bench, without

LATIN = "en_US.ISO-8859-1"


def typed(*arguments: str | bytes | Path, **variables: str) -> tuple[int, bytes]:
    """(exit code, all that it printed) of a command in an environment."""
    ended = subprocess.run(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    return ended.returncode, ended.stdout


@pytest.fixture
def skipped(tiny_matrix: Path, tmp_path: Path) -> Sequence[str | Path]:
    """A run that prints a sign and starts no worker: the only device it asks for is not here."""
    tiny_matrix.write_text(tiny_matrix.read_text().replace("[cpu]", "[cuda]"))
    return ("run", tiny_matrix, "--runtime", "local", "--out", tmp_path / "results")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8:strict"])
def test_no_sign_of_ours_ends_a_run(
    encoding: str, skipped: Sequence[str | Path], tmp_path: Path
) -> None:
    code, said = typed(*skipped, PYTHONIOENCODING=encoding, CUDA_VISIBLE_DEVICES="")
    assert (code, b"4 cells skipped: no GPU here" in said) == (1, True)
    assert said.decode(encoding.partition(":")[0]).count("–" if "utf" in encoding else "- ") >= 1
    assert len(read_table(tmp_path / "results" / "runs.csv")) == 4


def test_a_locale_of_another_encoding(skipped: Sequence[str | Path], tmp_path: Path) -> None:
    if shutil.which("localedef") is None:
        without("no localedef is here to make a locale with")
    made = subprocess.run(
        ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / LATIN], check=False
    )
    if made.returncode:
        without("localedef has no definitions to make a locale of")
    code, said = typed(*skipped, LOCPATH=str(tmp_path), LC_ALL=LATIN, CUDA_VISIBLE_DEVICES="")
    assert (code, b"- 4 cells skipped: no GPU here" in said) == (1, True)


# What a shell does with standard output, and how the loss is told.
PIPE = '("$@"; echo $? >code) | true; exit $(cat code)'
NOWHERE = {
    '"$@" >&-': "it is closed",
    '"$@" <&- >&-': "it is closed",
    '"$@" >/dev/full': "No space left on device",
    PIPE: "Broken pipe",
}


def into_nowhere(
    shell: str, place: Path, *arguments: str | Path
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", shell, "sh", sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("shell", [PIPE, '"$@" >/dev/full 2>&-', '"$@" <&- >&- 2>&-'])
def test_a_run_whose_progress_cannot_be_printed_goes_on(
    shell: str, tiny_matrix: Path, tmp_path: Path
) -> None:
    one = ("--only", "seed=1", "--only", "optimizer=adamw", "--out", tmp_path / "results")
    ended = into_nowhere(shell, tmp_path, "run", tiny_matrix, "--runtime", "local", *one)
    assert (ended.returncode, ended.stderr) == (0, "")
    (row,) = read_table(tmp_path / "results" / "runs.csv")
    assert row["status"] == "ok"


@pytest.mark.parametrize(("shell", "why"), NOWHERE.items())
@pytest.mark.parametrize("command", ["plan", "schema"])
def test_what_a_command_is_for_cannot_be_lost_silently(
    command: str, shell: str, why: str, tiny_matrix: Path, tmp_path: Path
) -> None:
    arguments = (command, tiny_matrix, "--runtime", "local") if command == "plan" else (command,)
    ended = into_nowhere(shell, tmp_path, *arguments)
    assert ended.returncode == 1
    assert ended.stderr == f"error: not all could be printed to standard output: {why}\n"


def test_without_standard_error_codes_stay(tmp_path: Path) -> None:
    for shell in ('"$@" 2>&-', '"$@" 2>/dev/full', '"$@" >&- 2>&-'):
        assert into_nowhere(shell, tmp_path, "plan", "none.yaml").returncode == 2


def test_every_sign_of_the_progress_has_a_plain_one() -> None:
    assert set(progress.SIGN.values()) | {"✗", "↻", "–"} <= PLAIN.keys()
    assert all(plain.isascii() for plain in PLAIN.values())


def test_a_file_name_that_is_no_text(tiny_matrix: Path, tmp_path: Path) -> None:
    place = os.fsencode(tmp_path) + b"/n\xff\xc3\xa9"
    os.mkdir(place)
    shutil.copy(tiny_matrix, place + b"/m.yaml")
    code, said = typed("plan", place + b"/m.yaml", "--runtime", "local")
    assert (code, b"4 cells, 4 selected" in said) == (0, True)
    code, said = typed("plan", place + b"/none.yaml", "--runtime", "local")
    assert (code, b"n?\xc3\xa9/none.yaml: cannot be read" in said) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PYTHONINSPECT", "PYTHONOPTIMIZE", "PYTHONWARNINGS"])
def test_variables_of_pythons_own_change_neither_codes_nor_texts(name: str, tmp_path: Path) -> None:
    variables = {name: "error" if name == "PYTHONWARNINGS" else "2"}
    assert typed("plan", tmp_path / "none.yaml", **variables)[0] == 2
    assert typed("schema", **variables) == (0, bench("schema").stdout.encode())


def test_a_notebooks_backend_is_not_asked_for(tmp_path: Path) -> None:
    """`verify` loads what draws the report before it looks at the file."""
    code, said = typed("verify", tmp_path / "none", MPLBACKEND="module://of.a.notebook")
    assert (code, said.startswith(b"error: ")) == (2, True)


def git(place: Path, *arguments: str) -> str:
    who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
    command = ["git", "-C", str(place), *who, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Somebody's, with a package of theirs; it ignores its .venv."""
    place = tmp_path / "somebodys"
    for package in (place / "theirs", place / ".venv" / "bench"):
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
    (place / ".gitignore").write_text(".venv/\n")
    git(place, "init", "--quiet")
    git(place, "add", "--all")
    git(place, "commit", "--quiet", "--message", "theirs")
    return place


def test_a_repository_that_holds_us_untracked_is_not_ours(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "PACKAGE", repository / ".venv" / "bench")
    found = machine.this_machine()
    assert (found.git_commit, found.git_dirty) == (None, None)
    monkeypatch.setattr(machine, "PACKAGE", repository / "theirs")
    found = machine.this_machine()
    assert (found.git_commit, found.git_dirty) == (git(repository, "rev-parse", "HEAD"), False)


def test_variables_of_a_hook_lead_to_no_other_repository(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / "__init__.py").write_text("")
    git(ours, "init", "--quiet")
    git(ours, "add", "--all")
    git(ours, "commit", "--quiet", "--message", "ours")
    commit = git(ours, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(repository / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(repository))
    monkeypatch.setenv("GIT_INDEX_FILE", str(repository / ".git" / "index"))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "0")
    monkeypatch.setattr(machine, "PACKAGE", ours)
    found = machine.this_machine()
    assert (found.git_commit, found.git_dirty) == (commit, False)
    assert "GIT_CONFIG_COUNT" in machine.without_gits(os.environ)  # what git is told of owners


def test_without_a_home_the_cache_has_to_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("BENCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(CacheError, match="Set BENCH_CACHE to a folder"):
        cache_folder()


def test_a_user_who_is_not_in_the_systems_list(tiny_matrix: Path) -> None:
    if os.getuid() != 0 or shutil.which("setpriv") is None:
        without("only root may become a user who does not exist, with setpriv")
    nobody = ["setpriv", "--reuid", "12345", "--clear-groups", sys.executable, "-m", "bench"]
    hidden = {"HOME", "USER", "LOGNAME", "BENCH_CACHE"}
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)  # that of pytest is for its own user
        matrix = shutil.copy(tiny_matrix, place)
        text = shutil.copy(tiny_matrix.parent / "text.txt", place)
        content = tiny_matrix.read_text().replace(str(tiny_matrix.parent), place)
        Path(matrix).write_text(content)
        assert text in content
        ended = subprocess.run(
            [*nobody, "plan", matrix, "--runtime", "local"],
            cwd=ROOT,
            env={name: value for name, value in os.environ.items() if name not in hidden},
            capture_output=True,
            text=True,
            check=False,
        )
    if "Permission denied" in ended.stderr:
        without("the interpreter or the checkout is for root alone")
    assert ended.returncode == 0, ended.stderr
