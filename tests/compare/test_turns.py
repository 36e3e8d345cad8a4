"""Whose turn it is, with small real commands in place of a side's own."""

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.compare.sides import Side
from bench.compare.turns import Call, Turns
from bench.errors import StoppedError

# Writes what it does into one file with the others: its name at each slice.
TAKES_TURNS = """
import os, sys, socket
from bench.launch.baton import Baton
name, slices, file = sys.argv[1], int(sys.argv[2]), sys.argv[3]
baton = Baton.given()
for each in range(slices):
    with open(file, "a") as log:
        log.write(name)
    if baton and each + 1 < slices:
        baton.pass_on()
        baton.take()
print(f"{name} is done")
"""
KNOWS_NONE = TAKES_TURNS.replace("Baton.given()", "None")
CRASHES = "raise SystemExit('it is broken')"
WAITS = TAKES_TURNS.replace("baton.pass_on()", "import time; time.sleep(600)")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


def side(folder: Path, name: str, program: str) -> Side:
    """A version whose `python -m bench` is this program."""
    root = folder / name
    root.mkdir()
    (root / "program.py").write_text(program)
    return _Side(name, name, root, None, name)


class _Side(Side):
    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, str(self.root / "program.py"), *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ}


def asked(folder: Path, log: Path, name: str, slices: int, program: str = TAKES_TURNS) -> Call:
    return Call(side(folder, name, program), (name, str(slices), str(log)))


def test_one_computes_at_a_time_a_slice_each(tmp_path: Path, log: Path) -> None:
    ended = Turns().run_in_turn([asked(tmp_path, log, name, 3) for name in "abc"])
    assert log.read_text() == "abcabcabc"
    assert ended == [(0, f"{name} is done\n") for name in "abc"]


def test_the_others_go_on_when_one_has_ended(tmp_path: Path, log: Path) -> None:
    Turns().run_in_turn([asked(tmp_path, log, "a", 1), asked(tmp_path, log, "b", 4)])
    assert log.read_text() == "abbbb"


def test_one_that_knows_no_turns_runs_whole_in_its_own(tmp_path: Path, log: Path) -> None:
    Turns().run_in_turn([asked(tmp_path, log, "a", 3), asked(tmp_path, log, "b", 3, KNOWS_NONE)])
    assert log.read_text() == "abbbaa"


def test_one_that_crashes_holds_nobody_up(tmp_path: Path, log: Path) -> None:
    broken, sound = Turns().run_in_turn(
        [asked(tmp_path, log, "a", 3, CRASHES), asked(tmp_path, log, "b", 3)]
    )
    assert broken == (1, "it is broken\n")
    assert sound[0] == 0


def test_a_command_alone_passes_nothing_on(tmp_path: Path, log: Path) -> None:
    one = asked(tmp_path, log, "a", 3)
    assert Turns().run(one.side, *one.arguments) == (0, "a is done\n")
    assert log.read_text() == "aaa"


def test_a_signal_ends_all_of_them_also_those_that_wait(tmp_path: Path, log: Path) -> None:
    turns = Turns()

    def interrupt() -> None:
        while not log.exists() or log.read_text() != "ab":
            time.sleep(0.05)
        turns.pass_on(signal.SIGTERM)

    threading.Thread(target=interrupt, daemon=True).start()
    commands = [
        asked(tmp_path, log, "a", 3),
        asked(tmp_path, log, "b", 3, WAITS),
        asked(tmp_path, log, "c", 3),
    ]
    with pytest.raises(StoppedError):
        turns.run_in_turn(commands)
    assert log.read_text() == "ab", "another one was begun"
    assert turns.running == []


def test_what_a_long_command_prints_does_not_hold_it_up(tmp_path: Path, log: Path) -> None:
    talks = "print('x' * 3_000_000)\n" + TAKES_TURNS
    first, _ = Turns().run_in_turn(
        [asked(tmp_path, log, "a", 2, talks), asked(tmp_path, log, "b", 2)]
    )
    assert len(first[1]) > 3_000_000
