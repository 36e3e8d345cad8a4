"""SIGKILL at random moments loses, doubles and leaves nothing; Ctrl-C is a row. See chaos.py.

KILLS says how many rounds in each runtime; a few keep `make test` short.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.records.columns import RUN_COLUMNS
from bench.records.folder import ResultsFolder
from bench.records.rows import read_table, write_table
from bench.records.tables import CURVE_COLUMNS, PLAN_COLUMNS
from tests.builders.shared import ROOT, bench, need_cpus
from tests.run.chaos import Arena, Chaos, Reference, Round, damage, left_running, reference_of

KILLS = int(os.environ.get("KILLS", "2"))


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_sigkill_at_any_moment_loses_nothing(tmp_path: Path, runtime: str, jobs: int) -> None:
    need_cpus(jobs)
    said = list[str]()
    chaos = Chaos(Arena.open(tmp_path, runtime, jobs), say=said.append)
    chaos.play(KILLS, seed=random.randrange(1_000_000))
    assert chaos.counts.total() == 0, "\n".join(said)
    assert chaos.killed.total() >= KILLS


@pytest.mark.slow
def test_ctrl_c_writes_interrupted_and_a_second_run_goes_on(
    tiny_matrix: Path, tmp_path: Path, runtime: str
) -> None:
    results = tmp_path / "results"
    arguments = ["run", str(tiny_matrix), "--out", str(results), "--runtime", runtime]
    runner = subprocess.Popen([sys.executable, "-m", "bench", *arguments], cwd=ROOT)
    deadline = time.monotonic() + 60
    while not list(results.glob("cells/*-1/spec.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    runner.send_signal(signal.SIGINT)
    assert runner.wait(timeout=60) == 130
    assert left_running(results, runtime) == []
    (row,) = read_table(results / "runs.csv")
    assert (row["status"], row["reason"]) == ("interrupted", "stopped by SIGINT")
    assert bench(*arguments).returncode == 0
    assert [row["status"] for row in read_table(results / "runs.csv")] == ["interrupted"] + [
        "ok"
    ] * 4


# --- What chaos would find -----------------------------------------------------------------------

CELLS = ("aaaaaaaaaaaa", "bbbbbbbbbbbb")


def finish(results: Path) -> Path:
    """A folder of two ok cells, as a run leaves it."""
    folder = ResultsFolder(results)
    rows = [{"run_id": cell, "attempt": 1, "status": "ok", "val_loss_final": 3.5} for cell in CELLS]
    points = [{"run_id": cell, "attempt": 1, "step": 4, "val_loss": 3.5} for cell in CELLS]
    for cell in CELLS:
        (folder.cells / f"{cell}-1").mkdir(parents=True)
        (folder.cells / f"{cell}-1" / "result.json").write_text("{}")
    write_table(folder.runs, RUN_COLUMNS, rows)
    write_table(folder.curves, CURVE_COLUMNS, points)
    write_table(folder.plan, PLAN_COLUMNS, rows)
    return results


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Reference]:
    results = finish(tmp_path / "finished")
    return results, reference_of(results)


def test_a_folder_like_the_undisturbed_one_is_whole(finished: tuple[Path, Reference]) -> None:
    assert damage(*finished) == []


def change(name: str, edit: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda results: (results / name).write_bytes(edit((results / name).read_bytes()))


DAMAGE: dict[str, tuple[Callable[[Path], object], set[str]]] = {
    "a row is gone": (
        change("runs.csv", lambda text: text[: text.index(b"bbbb")]),
        {"lost"},
    ),
    "a cell never became ok": (
        change("runs.csv", lambda text: text.replace(b",ok,", b",crashed,", 1)),
        {"lost"},
    ),
    "another final loss": (
        change("runs.csv", lambda text: text.replace(b"3.5", b"3.6", 1)),
        {"lost"},
    ),
    "another curve": (
        change("curves.csv", lambda text: text.replace(b"3.5", b"3.6", 1)),
        {"lost"},
    ),
    "a row twice": (
        change("runs.csv", lambda text: text + text[text.index(b"bbbb") :]),
        {"double"},
    ),
    "two ok attempts": (
        change("runs.csv", lambda text: text + text[text.index(b"bbbb") :].replace(b",1,", b",2,")),
        {"double", "lost"},  # the second has no curve either
    ),
    "a torn row at the end": (change("runs.csv", lambda text: text + b"aaaa,"), {"half"}),
    "a row glued to a torn one": (
        change("runs.csv", lambda text: text.replace(b"bbbb", b"aaaa,,1bbbb", 1)),
        {"half", "lost"},
    ),
    "a row glued to a name": (
        change("runs.csv", lambda text: text.replace(b"bbbb", b"aabbbb", 1)),
        {"half", "lost"},
    ),
    "no header": (
        change("runs.csv", lambda text: text.partition(b"\n")[2]),
        {"half", "lost"},
    ),
    "no rows at all": (lambda results: (results / "runs.csv").unlink(), {"half", "lost"}),
    "a torn plan": (change("plan.csv", lambda text: text[:-1]), {"half"}),
    "a plan of one cell": (change("plan.csv", lambda text: text[: text.index(b"bbbb")]), {"half"}),
    "torn curves": (change("curves.csv", lambda text: text[:-1]), {"half", "lost"}),
    "a torn result": (change(f"cells/{CELLS[0]}-1/result.json", lambda text: text[:1]), {"half"}),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found(what: str, finished: tuple[Path, Reference]) -> None:
    results, reference = finished
    inflict, kinds = DAMAGE[what]
    inflict(results)
    assert {kind for kind, _ in damage(results, reference)} == kinds


def test_a_row_that_vanishes_is_lost_even_if_it_comes_again(
    finished: tuple[Path, Reference],
) -> None:
    results, reference = finished
    one = Round(Arena(results.parent, "local", reference, 1.0), results, random.Random(0))
    one.look()
    rows = (results / "runs.csv").read_bytes()
    (results / "runs.csv").write_bytes(rows[: rows.index(b"bbbb")])
    one.look()
    (results / "runs.csv").write_bytes(rows)
    one.look()
    assert [kind for kind, _ in one.found] == ["lost"]


def test_a_process_that_names_the_folder_is_found(tmp_path: Path) -> None:
    sleeper = shutil.which("sleep")
    assert sleeper is not None
    with subprocess.Popen([str(tmp_path / "worker"), "60"], executable=sleeper) as process:
        assert [str(process.pid) in what for what in left_running(tmp_path, "local")] == [True]
        process.kill()
    assert left_running(tmp_path, "local") == []
