"""A fault of one cell is its own: the cell beside it ends as it would have, or as it was told to.

With real workers, two at once, each held until the other is there.
"""

import os
import signal
import textwrap
from pathlib import Path

import psutil
import pytest

from bench.launch.engine import Engine
from tests.builders.broken import AT_START, BEFORE_A_CELL, PATH, PAUSE, PAUSE_BETWEEN, Broken, ended
from tests.builders.shared import need_cpus
from tests.run.chaos import wait_until_gone

pytestmark = pytest.mark.slow

CRASH = "__import__('os')._exit(3)"
KILLED = "__import__('os')._exit(137)"  # as a shell and an engine report SIGKILL
SILENT = "__import__('time').sleep(600)"
MEMORY = "bytearray(2**31)"

OF_SECOND = f"""\
if '"seed": 2' in {PATH}(sys.argv[1], "spec.json").read_text():
    {{fault}}
"""


@pytest.fixture
def broken(broken: Broken) -> Broken:
    need_cpus(2)
    return broken


def run_both(copy: Broken, runtime: str, fault: str, retries: int = 0) -> tuple[int, str, str]:
    """Two cells at once, of which the fault meets that of seed 2, in each of its attempts."""
    copy.insert(AT_START, PAUSE + OF_SECOND.format(fault=fault))
    runner = copy.start(runtime, "--jobs", "2")
    for attempts in range(2, 3 + retries):
        for folder in copy.all_paused(attempts):
            (folder / "go").touch()
    return ended(runner)


def ends(copy: Broken, seed: int) -> list[str]:
    return [row["status"] for row in copy.rows() if row["seed"] == str(seed)]


@pytest.mark.parametrize(
    ("fault", "limits", "statuses"),
    [
        (CRASH, {}, ["crashed"]),
        (KILLED, {"retries": 1}, ["crashed", "crashed"]),
        (SILENT, {"heartbeat_s": 15}, ["timeout"]),
    ],
    ids=["crash", "retried", "timeout"],
)
def test_one_ends_badly_and_the_other_well(
    broken: Broken, runtime: str, fault: str, limits: dict[str, float], statuses: list[str]
) -> None:
    broken.ask(seeds=2, memory_gib=1, **limits)
    code, out, err = run_both(broken, runtime, fault, retries=len(statuses) - 1)
    assert (code, "1 of 2 runs ok" in out, err) == (1, True, "")
    assert (ends(broken, 1), ends(broken, 2)) == (["ok"], statuses)
    for row in broken.rows():
        assert row["attempt"] != "1" or row["neighbours"] == "1"


def test_the_kernel_kills_one_for_memory(broken: Broken, engine: Engine) -> None:
    broken.ask(seeds=2, memory_gib=1)
    code, _, err = run_both(broken, engine.name, MEMORY)
    assert (code, err) == (1, "")
    assert (ends(broken, 1), ends(broken, 2)) == (["ok"], ["oom_killed"])


def test_a_launch_that_fails_ends_the_cell_beside_it(broken: Broken, runtime: str) -> None:
    broken.ask(seeds=2, memory_gib=1)
    broken.insert(AT_START, PAUSE)
    fault = "raise __import__('bench.errors').errors.EngineError('made up')\n"
    broken.insert(BEFORE_A_CELL, PAUSE_BETWEEN + textwrap.indent(fault, "    "))
    runner = broken.start(runtime, "--jobs", "2")
    broken.all_paused(2)
    (broken.root / "go").touch()
    code, out, err = ended(runner)
    assert (code, "1 interrupted, 1 open" in out, "Traceback" in err) == (1, True, False)
    assert "error: made up" in err
    (row,) = broken.rows()
    assert row["reason"] == "stopped because another cell's launch or record failed"
    broken.mend()
    code, out, err = broken.run(runtime, "--jobs", "2")
    assert (code, "2 of 2 runs ok" in out, err) == (0, True, "")


def test_a_user_who_interrupts_both(broken: Broken, runtime: str) -> None:
    broken.ask(seeds=3, memory_gib=1)
    broken.insert(AT_START, PAUSE)
    runner = broken.start(runtime, "--jobs", "2")
    broken.all_paused(2)
    runner.send_signal(signal.SIGINT)
    code, out, err = ended(runner)
    assert (code, "2 interrupted, 1 open" in out, err) == (130, True, "")
    assert {row["reason"] for row in broken.rows()} == {"stopped by SIGINT"}
    broken.mend()
    code, out, err = broken.run(runtime, "--jobs", "2")
    assert (code, "3 of 3 runs ok" in out, err) == (0, True, "")


def test_a_killed_runner_leaves_neither(broken: Broken, runtime: str) -> None:
    """Each worker holds the one end of its own lifeline: a neighbour's would outlast the runner."""
    broken.ask(seeds=2, memory_gib=1)
    broken.insert(AT_START, PAUSE)
    runner = broken.start(runtime, "--jobs", "2")
    broken.all_paused(2)
    first, second = map(pipes, psutil.Process(runner.pid).children())
    assert first
    assert second
    assert not first & second
    runner.kill()
    runner.communicate()
    assert wait_until_gone(broken.results, runtime) == []
    assert broken.rows() == []
    broken.mend()
    code, out, err = broken.run(runtime, "--jobs", "2")
    assert (code, "2 of 2 runs ok" in out, err) == (0, True, "")
    assert {row["attempt"] for row in broken.rows()} == {"2"}


def pipes(process: psutil.Process) -> set[str]:
    """Those that a worker, or its engine's client, shares with its runner."""
    links = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
    of_runner = {os.readlink(file) for file in Path(f"/proc/{process.ppid()}/fd").iterdir()}
    return {link for link in links if link.startswith("pipe:")} & of_runner


def test_rows_of_cells_that_end_together_are_whole(broken: Broken) -> None:
    broken.ask(seeds=12, memory_gib=1)
    broken.insert(AT_START, CRASH)
    code, _, err = broken.run("local", "--jobs", "2")
    assert (code, err) == (1, "")
    assert sorted(int(row["seed"]) for row in broken.rows()) == list(range(1, 13))
    assert {row["status"] for row in broken.rows()} == {"crashed"}
