"""One holder of a results folder at a time, on one host or on several, and what each commits."""

import errno
import fcntl
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.errors import FolderError, RecordError, StoppedError
from bench.merge.reading import read_rows
from bench.records import hold as module
from bench.records.columns import RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.hold import Hold, Newcomer
from bench.records.rows import RUNS_NEED, RunsTable, as_table, read_runs
from tests.records.test_records import append_in_part, row

HOSTS, LIVES = 3, 40


class Clock:
    """Instead of the module `time`: it stands still unless somebody pauses."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s

    def strftime(self, form: str) -> str:
        return "2026-11-29 20:00:00"

    def pause(self, seconds: float) -> bool:
        self.now_s += seconds
        return True


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "BEAT_S", 1e6)  # a test beats itself
    return clock


HOST = threading.local()


@pytest.fixture(autouse=True)
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread is on the host that it says."""
    HOST.name = "n1"
    monkeypatch.setattr(module, "boot_id", lambda: HOST.name)
    monkeypatch.setattr(module, "lock_file", lambda folder: folder / f".lock-{HOST.name}")
    monkeypatch.setattr(module.platform, "node", lambda: HOST.name)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results"


@pytest.fixture
def enter() -> Iterator[Callable[..., tuple[ResultsFolder, Hold]]]:
    """Hold a folder as somebody on a host, until the test ends."""
    with ExitStack() as stack:

        def taken(
            path: Path, host: str, newcomer: Newcomer | None = None
        ) -> tuple[ResultsFolder, Hold]:
            HOST.name = host
            folder = ResultsFolder(path)
            return folder, stack.enter_context(folder.locked(newcomer))

        yield taken


def beat(path: Path, sign: str) -> None:
    (file,) = path.glob(".holder/now/*/beat")
    file.write_text(sign)


def die(hold: Hold) -> None:
    """As SIGKILL ends a process: its lock goes, its files stay."""
    hold._ended.set()
    hold._beating.join()
    os.close(hold._lock)
    hold._lock = os.open(os.devnull, os.O_RDONLY)  # something to close in the end


def ids(path: Path) -> list[str]:
    return [found["run_id"] for found in read_runs(path / "runs.csv")]


# --- Who holds it -------------------------------------------------------------------------------


def test_a_second_one_on_the_host_is_refused_and_told_by_whom_and_what_to_do(path, enter):
    enter(path, "n1")
    told = (
        rf"in use by process {os.getpid()} on n1, 2026-11-29 20:00:00\. Wait for it \(`run --wait-"
    )
    with pytest.raises(FolderError, match=told):
        enter(path, "n1", Newcomer(pause=lambda seconds: pytest.fail("it was waited for")))


@pytest.mark.parametrize("fails", [False, True])
def test_who_ends_leaves_it_free_at_once(path, enter, fails):
    HOST.name = "n1"
    with pytest.raises(RecordError) if fails else ExitStack(), ResultsFolder(path).locked():
        if fails:
            raise RecordError("its disk is full")
    assert not (path / ".holder" / "now").exists()
    enter(path, "n2", Newcomer(pause=lambda seconds: pytest.fail("it was waited for")))


def test_a_dead_process_of_the_host_is_no_holder(path, enter):
    _, hold = enter(path, "n1")
    die(hold)
    enter(path, "n1", Newcomer(pause=lambda seconds: pytest.fail("it was waited for")))
    assert len(list(path.glob(".holder/now/*"))) == 1


def test_what_a_process_left_that_died_as_it_began_is_removed(path, enter):
    for name in ("new-n1_dead", "new-n2_dead"):
        (path / ".holder" / name).mkdir(parents=True)
    enter(path, "n1")
    assert [left.name for left in path.glob(".holder/new-*")] == ["new-n2_dead"]


def test_one_on_another_host_that_lives_is_refused(path, enter, clock):
    enter(path, "n1")

    def pause(seconds: float) -> bool:
        if clock.now_s > 5:
            beat(path, f"{clock.now_s}")
        return clock.pause(seconds)

    with pytest.raises(FolderError, match=rf"in use by process {os.getpid()} on n1"):
        enter(path, "n2", Newcomer(pause=pause))


def test_one_on_another_host_is_waited_for_until_it_ends(path, enter, clock):
    said: list[str] = []
    HOST.name = "n1"
    first = ExitStack()
    first.enter_context(ResultsFolder(path).locked())

    def pause(seconds: float) -> bool:
        if clock.now_s < 300:
            beat(path, f"{clock.now_s}")
        else:
            first.close()
        return clock.pause(seconds)

    enter(path, "n2", Newcomer(True, said.append, pause))
    who = f"process {os.getpid()} on n1, 2026-11-29 20:00:00"
    assert said == [
        f"{path} has a mark of {who}: looking for a sign of life",
        f"waiting for {who}, who uses {path}",
    ]


def test_one_on_the_same_host_is_waited_for_until_it_ends(path, enter, clock):
    said: list[str] = []
    HOST.name = "n1"
    first = ExitStack()
    first.enter_context(ResultsFolder(path).locked())

    def pause(seconds: float) -> bool:
        if clock.now_s > 1000:  # its lock tells that it lives, however silent it is
            first.close()
        return clock.pause(seconds)

    enter(path, "n1", Newcomer(True, said.append, pause))
    assert len(said) == 1


def test_a_silent_one_on_another_host_is_taken_over_from_and_that_is_said(path, enter, clock):
    said: list[str] = []
    enter(path, "n1")
    enter(path, "n2", Newcomer(say=said.append, pause=clock.pause))
    assert clock.now_s == module.SILENT_S
    who = f"process {os.getpid()} on n1, 2026-11-29 20:00:00"
    assert said == [
        f"{path} has a mark of {who}: looking for a sign of life",
        f"none for 90 s: {path} is taken over from it",
    ]


def test_a_file_system_that_hangs_is_no_silence(path, enter, clock):
    """The other's signs hang as well. So it is with a newcomer that was stopped."""
    enter(path, "n1")
    pauses = 0

    def pause(seconds: float) -> bool:
        nonlocal pauses
        pauses += 1
        if pauses == 10:
            beat(path, "it lives")
        return clock.pause(600.0)

    with pytest.raises(FolderError, match="in use"):
        enter(path, "n2", Newcomer(pause=pause))


def test_who_gives_up_waiting_holds_nothing(path, enter):
    enter(path, "n1")
    for host in ("n1", "n2"):
        with pytest.raises(StoppedError, match=r"stopped while waiting for .*; nothing was run"):
            enter(path, host, Newcomer(waits=True, pause=lambda seconds: False))
    HOST.name = "n2"
    assert fcntl.flock(os.open(module.lock_file(path), os.O_RDWR), fcntl.LOCK_EX) is None


def test_where_there_are_no_locks_signs_of_life_tell_on_one_host_too(
    path, enter, clock, monkeypatch
):
    def none(handle: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(module.fcntl, "flock", none)
    enter(path, "n1")

    def pause(seconds: float) -> bool:
        beat(path, f"{clock.now_s}")
        return clock.pause(seconds)

    with pytest.raises(FolderError, match="in use"):
        enter(path, "n1", Newcomer(pause=pause))
    _, second = enter(path, "n1", Newcomer(pause=clock.pause))
    second.check()


def test_another_failure_of_the_lock_is_told(path, enter, monkeypatch):
    def fail(handle: int, how: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(module.fcntl, "flock", fail)
    with pytest.raises(FolderError, match=r"cannot be written: Input/output error"):
        enter(path, "n1")


# --- Who was taken over from --------------------------------------------------------------------


@pytest.fixture
def pair(path, enter, clock) -> tuple[ResultsFolder, RunsTable, ResultsFolder, RunsTable]:
    """One that was taken over from, and the one that did, each with its runs.csv."""
    first, _ = enter(path, "n1")
    runs = first.open_runs()
    runs.append(row("a"))
    second, _ = enter(path, "n2", Newcomer(pause=clock.pause))
    return first, runs, second, second.open_runs()


TAKEN = rf"was taken over by process {os.getpid()} on n2, .* Nothing more of this one is committed"


def test_it_commits_nothing_more(path, pair):
    first, runs, _, of_second = pair
    with pytest.raises(FolderError, match=TAKEN):
        runs.append(row("b"))
    assert list(path.glob(".holder/rows/*")) == []
    of_second.append(row("b"))
    assert ids(path) == ["a", "b"]
    with pytest.raises(FolderError, match=TAKEN):
        first.check_held()


def test_it_writes_no_other_file_either(path, pair):
    first, runs, second, _ = pair
    second.put(second.plan, "the other's\n")
    for write in (
        lambda: first.put(first.plan, "its own\n"),
        lambda: first.rebuild_curves(runs),
        lambda: first.write_plan("name", "text", [], set()),
    ):
        with pytest.raises(FolderError, match=TAKEN):
            write()
    assert second.plan.read_text() == "the other's\n"
    assert not first.curves.exists()


def test_it_drops_no_row_with_a_torn_one(path, pair, monkeypatch):
    """What it knows of runs.csv is old."""
    _, runs, second, of_second = pair
    of_second.append(row("b"))
    append_in_part(of_second, row("c"), monkeypatch, told="and added then")
    with pytest.raises(FolderError, match=TAKEN):
        runs._write(dict.fromkeys(runs.rows[0], "x"))
    assert ids(path) == ["a", "b"]
    assert second.open_runs().of("c")


def test_it_is_told_although_the_other_has_ended(path, clock):
    HOST.name = "n1"
    with ResultsFolder(path).locked() as hold:
        HOST.name = "n2"
        with ResultsFolder(path).locked(Newcomer(pause=clock.pause)):
            pass
        assert not (path / ".holder" / "now").exists()
        with pytest.raises(FolderError, match=TAKEN):
            hold.check()
    assert list(path.glob(".holder/taken/*")) == []  # told, and of no use any more


def test_a_sign_of_life_sees_it_too(path, enter, clock, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.001)
    first, hold = enter(path, "n1")
    hold._remove(hold._own)
    hold._beating.join()
    assert hold.lost
    with pytest.raises(FolderError, match="somebody has removed"):
        first.check_held()


def test_a_full_disk_is_no_loss(path, enter, monkeypatch):
    _, hold = enter(path, "n1")
    beats = 0

    def full(self: Path, text: str, encoding: str) -> int:
        nonlocal beats
        beats += 1
        hold._ended.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "BEAT_S", 0.001)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        hold._beat()
    assert (beats, hold.lost) == (1, False)
    hold.check()


# --- Rows between two files ---------------------------------------------------------------------


@pytest.mark.parametrize("appended", [False, True])
def test_a_row_of_a_process_that_died_as_it_committed_is_there_once(path, enter, clock, appended):
    first, hold = enter(path, "n1")
    runs = first.open_runs()
    runs.append(row("a"))
    if appended:
        runs.append(row("b", reason="x, y"))
    hold.publish(as_table(RUN_COLUMNS, [row("b", reason="x, y")]))
    second, _ = enter(path, "n2", Newcomer(pause=clock.pause))
    assert [found["run_id"] for found in second.open_runs().rows] == ["a", "b"]
    assert ids(path) == ["a", "b"]
    assert list(path.glob(".holder/rows/*")) == []


def test_a_row_that_an_older_version_had_committed_gets_the_columns_since(path, enter):
    folder, hold = enter(path, "n1")
    hold.publish(as_table(["run_id", "host_id", "attempt", "status"], [row("a")]))
    (found,) = folder.open_runs().rows
    assert (found["run_id"], found["reason"], list(found)) == ("a", "", list(RUN_COLUMNS))


def test_equal_lines_are_one_row_and_are_dropped(path, enter, clock):
    """Of somebody who was stopped in the moment of writing, and taken over from."""
    first, _ = enter(path, "n1")
    runs = first.open_runs()
    runs.append(row("a"))
    runs.append(row("b"))
    line = first.runs.read_bytes().splitlines(keepends=True)[1]
    runs._append_line(line)
    assert ids(path) == ["a", "b"]
    assert len(read_rows(first.runs, "results", RUNS_NEED, lambda row: None)[0]) == 2
    second, _ = enter(path, "n2", Newcomer(pause=clock.pause))
    assert [found["run_id"] for found in second.open_runs().rows] == ["a", "b"]
    assert first.runs.read_bytes().count(b"\n") == 3


def test_a_row_that_runs_csv_does_not_take_is_kept_for_the_next_run(path, enter, monkeypatch):
    folder, _ = enter(path, "n1")
    runs = folder.open_runs()
    kept = r"Make room for it .* and run again: it is kept in .*\.holder/rows/.*csv, and added then"
    append_in_part(runs, row("a"), monkeypatch, told=kept)
    assert ids(path) == []
    assert [found["run_id"] for found in folder.open_runs().rows] == ["a"]


def test_many_who_take_over_from_each_other_commit_each_row_once(tmp_path, monkeypatch):
    """Each at any moment from any other, who is at any place of what it does."""
    monkeypatch.setattr(module, "SILENT_S", 0.0)
    path, committed, refused = tmp_path / "results", set[str](), set[str]()
    faults, told = list[BaseException](), set[str]()

    def live(host: str, seed: int) -> None:
        HOST.name, draw = host, random.Random(seed)
        try:
            for life in range(LIVES):
                one_life(f"{host}-{life}", draw)
        except BaseException as fault:
            faults.append(fault)

    def one_life(name: str, draw: random.Random) -> None:
        run_id = name
        try:
            with ResultsFolder(path).locked() as hold:
                folder = ResultsFolder(path)
                runs = RunsTable(folder.runs, hold)
                for number in range(draw.randrange(4)):
                    run_id = f"{name}-{number}"
                    runs.append(row(run_id))
                    committed.add(run_id)
        except FolderError as error:
            refused.add(run_id)
            told.add(str(error))

    threads = [threading.Thread(target=live, args=(f"n{seed}", seed)) for seed in range(HOSTS)]
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert faults == []
    assert all("taken over by" in line or "somebody has removed" in line for line in told)
    HOST.name = "n1"
    with ResultsFolder(path).locked() as hold:
        found = [each["run_id"] for each in RunsTable(path / "runs.csv", hold).rows]
    assert len(found) == len(set(found))
    assert committed <= set(found)
    assert set(found) <= committed | refused  # of a refused one, who took over may have the row
    assert committed, "nobody came to commit anything"
    assert refused, "nobody was taken over from"
