"""A torn row, a full disk, a folder or a text that changes: what was written stays."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.border.tokenised import tokenise
from tests.builders.broken import (
    AT_COMMIT,
    AT_START,
    BEFORE_A_CELL,
    CRASH,
    PATH,
    PAUSE_BETWEEN,
    Broken,
    ended,
)

pytestmark = pytest.mark.slow


def test_a_run_repairs_a_torn_row_and_goes_on(broken: Broken) -> None:
    """tests/records/test_records.py cuts at every byte."""
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    broken.run("local")
    file = broken.results / "runs.csv"
    header, first, second = file.read_bytes().splitlines(keepends=True)
    for length in (1, len(second) // 2, len(second) - 1):
        file.write_bytes(header + first + second[:length])
        code, out, err = broken.run("local")
        assert (code, err) == (1, "")
        assert "runs to make: 1" in out
        assert file.read_bytes().startswith(header + first)
        assert [row["seed"] for row in broken.rows()] == ["1", "2"]
    assert broken.rows()[1]["attempt"] == "4"  # of each attempt the folder is kept


@pytest.fixture
def small_disk(broken: Broken) -> Iterator[Path]:
    """A results folder on a disk of 16 MiB."""
    broken.results.mkdir()
    with mounted("-t", "tmpfs", "-o", "size=16m", "tmpfs", broken.results):
        yield broken.results


@contextlib.contextmanager
def mounted(*arguments: str | Path) -> Iterator[None]:
    """A mount, for as long as the block lasts; only root may, and not everywhere."""
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        pytest.skip(f"mounting is not permitted here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", arguments[-1]], check=True)


def fill(folder: Path, left_mib: int) -> None:
    """A file that leaves so much room on the disk of `folder`."""
    room = shutil.disk_usage(folder).free - left_mib * 2**20
    (folder / "filler").write_bytes(bytes(room))


def test_a_disk_without_room_for_a_cell(broken: Broken, small_disk: Path) -> None:
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    broken.insert(BEFORE_A_CELL, PAUSE_BETWEEN)
    runner = broken.start("local")
    pausing = broken.paused()
    fill(small_disk, left_mib=6)
    (pausing / "go").touch()
    code, out, err = ended(runner)
    assert (code, "1 crashed, 1 open" in out) == (1, True)
    assert "a cell needs 8 MiB for its files. Make room." in err
    assert_goes_on(broken, "local")


def test_a_disk_that_fills_in_the_worker(broken: Broken, small_disk: Path, runtime: str) -> None:
    broken.ask(seeds=2)
    fault = f"""\
        if '"seed": 2' in {PATH}(sys.argv[1], "spec.json").read_text():
            with {PATH}(sys.argv[1], "filler").open("wb") as file:
                while True:
                    file.write(bytes(2**20))
    """
    broken.insert(AT_START, textwrap.dedent(fault) + CRASH)
    code, out, err = broken.run(runtime)
    assert (code, "1 crashed, 1 open" in out) == (1, True)
    assert "No space left on device" in err or f"the disk of {small_disk}/cells is full" in err
    assert_goes_on(broken, runtime)


def test_a_disk_that_takes_a_part_of_a_row(broken: Broken, small_disk: Path) -> None:
    """Full but for the rest of the last page of runs.csv, so that one of the rows is cut.

    It was committed a moment before, and kept: the next run appends it.
    """
    broken.ask(seeds=9)
    fault = """\
        if self.path.stat().st_size % 4096 + len(line) > 4096:
            handle = os.open(self.path.with_name("filler"), os.O_WRONLY | os.O_CREAT)
            try:
                while os.write(handle, bytes(4096)):
                    pass
            except OSError:
                os.close(handle)
    """
    broken.insert(AT_START, CRASH)
    broken.insert(AT_COMMIT, textwrap.dedent(fault))
    code, out, err = broken.run("local")
    file = broken.results / "runs.csv"
    complete, torn = file.read_bytes().rsplit(b"\n", 1)
    assert len(torn) > 0
    earlier = broken.rows()
    assert (code, f"{len(earlier)} crashed, {9 - len(earlier)} open" in out) == (1, True)
    assert "could not be written" in err
    assert "only a part of a row. Earlier rows are complete." in err
    (kept,) = broken.results.glob(".holder/rows/*.csv")
    assert f"it is kept in {kept}, and added then." in err
    (small_disk / "filler").unlink()
    broken.replace("bench/records/rows.py", "if self.path.stat().st_size % 4096", "if False and 1")
    code, out, err = broken.run("local")
    assert (code, err) == (1, "")
    assert f"runs to make: {9 - len(earlier) - 1}" in out
    assert file.read_bytes().startswith(complete + b"\n")
    assert {row["attempt"] for row in broken.rows()} == {"1"}
    assert [row["seed"] for row in broken.rows()] == list("123456789")


def assert_goes_on(broken: Broken, runtime: str) -> None:
    """Once mended, with room again, the open cell of two runs; the earlier row is as it was."""
    (earlier,) = broken.rows()
    for filler in broken.results.rglob("filler"):
        filler.unlink()
    broken.mend()
    code, out, err = broken.run(runtime)
    assert (code, err) == (1, "")
    assert "runs to make: 1" in out
    first, second = broken.rows()
    assert first == earlier
    assert (first["status"], second["seed"], second["status"]) == ("crashed", "2", "ok")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Mounted over itself, so that files that are open do not stand against it."""
    with mounted("--bind", folder, folder):
        subprocess.run(["mount", "-o", "remount,bind,ro", folder], check=True)
        yield


def test_a_read_only_results_folder_before_a_run(broken: Broken) -> None:
    broken.results.mkdir()
    with read_only(broken.results):
        code, out, err = broken.run("local")
    assert (code, "runs to make" in out) == (2, False)
    assert err == f"error: {broken.results} cannot be written: Read-only file system. " + (
        "Give another --out.\n"
    )


def test_a_results_folder_that_becomes_read_only_between_two_cells(broken: Broken) -> None:
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    broken.insert(BEFORE_A_CELL, PAUSE_BETWEEN)
    runner = broken.start("local")
    pausing = broken.paused()
    with read_only(broken.results):
        (pausing / "go").touch()
        code, out, err = ended(runner)
    assert (code, "1 crashed, 1 open" in out, "Traceback" in err) == (1, True, False)
    assert f"{broken.results} cannot be written any more: [Errno 30] Read-only file system" in err
    assert_goes_on(broken, "local")


@pytest.mark.parametrize("content", [None, "another text"], ids=["deleted", "changed"])
def test_a_corpus_that_is_not_the_same_between_two_cells(
    broken: Broken, content: str | None
) -> None:
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    broken.insert(BEFORE_A_CELL, PAUSE_BETWEEN)
    runner = broken.start("local")
    pausing = broken.paused()
    sha256 = hashlib.sha256(tokenise(broken.text.read_text())).hexdigest()
    stored = Path(os.environ["BENCH_CACHE"], "corpora", f"{sha256}.tokens")
    stored.unlink()
    if content is not None:
        stored.write_text(content)
    (pausing / "go").touch()
    code, out, err = ended(runner)
    assert (code, "1 crashed, 1 open" in out) == (1, True)
    if content is None:
        assert f"{stored} cannot be read any more: No such file" in err
    else:
        found = hashlib.sha256(content.encode()).hexdigest()
        assert f"its SHA-256 is {found}, not {sha256}" in err
    assert_goes_on(broken, "local")
