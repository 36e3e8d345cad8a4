"""Two runners of one folder, on two hosts with locks of their own, lose and double nothing.

Both are real; tests/builders/as_host.py makes this machine two hosts.
"""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from bench.records.rows import read_runs
from tests.builders.broken import (
    AFTER_STEP,
    AT_COMMIT,
    AT_START,
    CRASH,
    PATH,
    PATIENCE_S,
    Broken,
    ended,
    pause,
    wait_until,
)
from tests.builders.shared import ROOT

pytestmark = pytest.mark.slow

AS_HOST = ROOT / "tests" / "builders" / "as_host.py"
SOON_S, NEVER_S = 1.0, 1e6  # when a host counts as gone that gives no sign of life
FIRST = "BENCH_TEST_FIRST"  # set for the runner that a fault is meant for

# Where a commit may be cut in two.
BEFORE_MOVE = ("bench/border/atomic.py", "partial.replace(becomes())")
AFTER_MOVE = ("bench/records/rows.py", "self._hold.check()")
IN_FIRST = f'if __import__("os").environ.get("{FIRST}") and {{}}:\n'
OF_A_ROW = '"/.holder/rows/" in str(becomes())'


def start(broken: Broken, host: str, silent_s: float, *options: str) -> "subprocess.Popen[str]":
    broken.runtimes.add("local")
    arguments = ["run", broken.matrix, "--out", broken.results, "--runtime", "local", *options]
    first = {FIRST: "1"} if not broken.runners else {}
    runner = subprocess.Popen(
        [sys.executable, AS_HOST, host, str(silent_s), *map(str, arguments)],
        cwd=broken.root,
        env=os.environ | first,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    broken.runners.append(runner)
    return runner


def run(broken: Broken, host: str, silent_s: float, *options: str) -> tuple[int, str, str]:
    return ended(start(broken, host, silent_s, *options))


def pause_first(broken: Broken, place: tuple[str, str], condition: str = "True") -> Path:
    """The folder in which the first runner will pause, once."""
    where = broken.root / "pause"
    where.mkdir()
    fault = IN_FIRST.format(condition) + textwrap.indent(pause(repr(str(where))), "    ")
    broken.insert(place, fault)
    return where


def wait_for(file: Path, runner: "subprocess.Popen[str]") -> None:
    def there() -> bool:
        assert runner.poll() is None, runner.communicate()
        return file.exists()

    wait_until(there)


def seeds(broken: Broken) -> list[tuple[str, str]]:
    """(seed, attempt) of each row, as every reader has them."""
    rows = read_runs(broken.results / "runs.csv")
    return sorted((row["seed"], row["attempt"]) for row in rows)


# --- The first one lives ------------------------------------------------------------------------

# The worker of the first attempt at seed 1 waits; no other does.
FIRST_CELL = f"""\
cell = __import__("sys").argv[1]
if cell.endswith("-1") and '"seed": 1' in {PATH}(cell, "spec.json").read_text():
"""
FIRST_CELL += textwrap.indent(pause('__import__("sys").argv[1]'), "    ")


@pytest.fixture
def two_cells(broken: Broken) -> Broken:
    """Of two seeds, which end at once, but for the very first attempt: that one waits."""
    broken.ask(seeds=2)
    broken.insert(AT_START, FIRST_CELL + CRASH)
    return broken


def test_who_lives_on_another_host_is_not_disturbed(two_cells: Broken) -> None:
    first = start(two_cells, "n1", NEVER_S)
    cell = two_cells.paused()
    code, _, err = run(two_cells, "n2", NEVER_S)
    assert code == 2
    assert f"is in use by process {first.pid} on n1, 20" in err
    assert "Wait for it (`run --wait-for-folder`)" in err
    second = start(two_cells, "n2", NEVER_S, "--wait-for-folder")
    third = start(two_cells, "n1", NEVER_S, "--wait-for-folder")
    for waiting in (second, third):
        assert waiting.stdout is not None
        lines = iter(waiting.stdout.readline, "")
        assert next(line for line in lines if "waiting for" in line).startswith(
            f"waiting for process {first.pid} on n1, 20"
        )
    third.send_signal(signal.SIGTERM)
    code, _, err = ended(third)
    assert (code, "stopped while waiting for" in err) == (130, True)
    (cell / "go").touch()
    assert ended(first)[0] == 1
    code, out, err = ended(second)
    assert (code, err) == (1, "")
    assert "0 of 2 runs ok, 2 crashed" in out
    assert seeds(two_cells) == [("1", "1"), ("2", "1")]


# --- The first one is gone, or comes back ---------------------------------------------------------


def test_who_was_stopped_for_long_commits_nothing_more(two_cells: Broken) -> None:
    first = start(two_cells, "n1", SOON_S)
    cell = two_cells.paused()
    first.send_signal(signal.SIGSTOP)
    second = start(two_cells, "n2", SOON_S)
    code, out, err = ended(second)
    assert (code, err) == (1, "")
    assert f"has a mark of process {first.pid} on n1" in out
    assert f"none for 1 s: {two_cells.results} is taken over from it" in out
    before = (two_cells.results / "runs.csv").read_bytes()
    (cell / "go").touch()
    first.send_signal(signal.SIGCONT)
    code, _, err = ended(first)
    assert code == 1
    assert f"was taken over by process {second.pid} on n2" in err
    assert (two_cells.results / "runs.csv").read_bytes() == before
    assert seeds(two_cells) == [("1", "2"), ("2", "1")]  # of each attempt the folder is kept


@pytest.mark.parametrize(
    ("place", "condition", "attempt", "again"),
    [
        (BEFORE_MOVE, OF_A_ROW, "2", False),
        (AFTER_MOVE, "True", "1", False),
        (AT_COMMIT, "self._hold", "1", True),
    ],
    ids=["before the move", "before the last look", "before the append"],
)
def test_who_was_stopped_within_a_commit(
    broken: Broken, place: tuple[str, str], condition: str, attempt: str, again: bool
) -> None:
    """Before the row was moved it is no row; after that it is, and whoever takes over adds it."""
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    where = pause_first(broken, place, condition)
    first = start(broken, "n1", SOON_S)
    wait_for(where / "here", first)
    first.send_signal(signal.SIGSTOP)
    second = start(broken, "n2", SOON_S)
    assert ended(second)[0] == 1
    rows = [("1", attempt), ("2", "1")]
    assert seeds(broken) == rows
    (where / "go").touch()
    first.send_signal(signal.SIGCONT)
    code, _, err = ended(first)
    assert code == 1
    assert f"was taken over by process {second.pid} on n2" in err
    assert seeds(broken) == rows
    lines = (broken.results / "runs.csv").read_bytes().count(b"\n")
    assert lines == 1 + len(rows) + again  # the same line twice, which every reader has once
    assert run(broken, "n3", SOON_S)[0] == 1
    assert (broken.results / "runs.csv").read_bytes().count(b"\n") == 1 + len(rows)


@pytest.mark.parametrize("place", [BEFORE_MOVE, AFTER_MOVE, AT_COMMIT])
def test_who_was_killed_within_a_commit(broken: Broken, place: tuple[str, str]) -> None:
    broken.ask(seeds=2)
    broken.insert(AT_START, CRASH)
    where = pause_first(broken, place, OF_A_ROW if place is BEFORE_MOVE else "True")
    first = start(broken, "n1", SOON_S)
    wait_for(where / "here", first)
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    assert run(broken, "n2", SOON_S)[0] == 1
    assert seeds(broken) == [("1", "2" if place is BEFORE_MOVE else "1"), ("2", "1")]


def test_the_run_of_a_dead_host_goes_on_from_its_checkpoint(broken: Broken) -> None:
    broken.ask(steps=20)
    limits = "limits: {checkpoint_every: 5 steps}"
    broken.matrix.write_text(broken.matrix.read_text().replace("limits: {}", limits))
    waits = textwrap.indent(pause('__import__("sys").argv[1]'), "    ")
    of_first = 'if self.done == 12 and __import__("sys").argv[1].endswith("-1"):\n'
    broken.insert(AFTER_STEP, of_first + waits)
    first = start(broken, "n1", SOON_S)
    broken.paused()
    first.kill()
    first.communicate(timeout=PATIENCE_S)
    code, out, err = run(broken, "n2", SOON_S)
    assert (code, err) == (0, "")
    assert "goes on from step 10" in out
    (row,) = broken.rows()
    assert (row["attempt"], row["resumed"], row["steps"]) == ("2", "1", "20")
    broken.mend()
    broken.results = broken.results.with_name("undisturbed")
    assert run(broken, "n1", SOON_S)[0] == 0
    (alone,) = broken.rows()
    assert alone["resumed"] == "0"
    assert row["val_loss_final"] == alone["val_loss_final"]
    assert row["train_loss_final"] == alone["train_loss_final"]
