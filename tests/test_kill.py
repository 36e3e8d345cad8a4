"""SIGKILL at random moments: no committed row is lost or doubled, nothing is left running.

KILLS says how many; 20 is the full proof, a few keep `make test` short.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from conftest import ROOT, bench

from bench.launch import container
from bench.launch.engine import Engine
from bench.records import RUN_COLUMNS, as_line, read_table

KILLS = int(os.environ.get("KILLS", "4"))
LONGEST_S = 7.0  # a tiny cell takes three to five seconds: some are committed, some torn
GONE_WITHIN_S = 20.0


def ok_cells(results: Path) -> list[str]:
    return sorted(
        row["run_id"] for row in read_table(results / "runs.csv") if row["status"] == "ok"
    )


def left_running(results: Path, runtime: str) -> list[str]:
    """Workers and containers of this results folder that are still there."""
    if runtime != "local":
        return Engine(runtime).containers(container.folder_label(results))
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        if "bench.worker" in words and any(str(results) in word for word in words):
            found.append(" ".join(words))
    return found


def wait_until_gone(results: Path, runtime: str) -> None:
    deadline = time.monotonic() + GONE_WITHIN_S
    while left := left_running(results, runtime):
        if runtime != "local":
            states = [Engine(runtime).state(name)["Running"] for name in left]
            if not any(states):
                return  # a stopped container is removed at the next start
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.2)


def test_sigkill_at_any_moment_loses_nothing(
    tiny_matrix: Path, tmp_path: Path, runtime: str
) -> None:
    def command(results: Path) -> list[str]:
        arguments = ["run", str(tiny_matrix), "--out", str(results), "--runtime", runtime]
        return [sys.executable, "-m", "bench", *arguments]

    undisturbed = tmp_path / "undisturbed"
    subprocess.run(command(undisturbed), cwd=ROOT, check=True)
    moments, folders, committed = random.Random(20), [tmp_path / "killed-0"], list[str]()
    for kill in range(KILLS):
        runner = subprocess.Popen(command(folders[-1]), cwd=ROOT)
        time.sleep(moments.uniform(0, LONGEST_S))
        runner.send_signal(signal.SIGKILL)
        runner.wait()
        wait_until_gone(folders[-1], runtime)
        before, committed = committed, ok_cells(folders[-1])
        assert set(before) <= set(committed), "a committed row was lost"
        if len(committed) == len(ok_cells(undisturbed)):
            folders.append(tmp_path / f"killed-{kill + 1}")  # nothing left to hit in this one
            committed = []
    for results in folders:
        subprocess.run(command(results), cwd=ROOT, check=True)
        assert ok_cells(results) == ok_cells(undisturbed), "a cell was lost or counted twice"
        assert left_running(results, runtime) == []
        header = (results / "runs.csv").read_text().partition("\n")[0] + "\n"
        assert header == as_line(RUN_COLUMNS)


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
    assert len(ok_cells(results)) == 4
