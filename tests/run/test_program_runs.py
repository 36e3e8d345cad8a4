"""Programs run to their rows, one a process and several, by the commands as they are typed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.matrix.expansion import load_matrix
from bench.records.endings import CELL_SAYS, GPU_FAILED
from bench.run import attempt
from bench.run.progress import LiveDisplay
from tests.builders.program_runs import Scripted, command
from tests.builders.shared import ROOT

PLAIN = """
import sys
optimizer, seed = sys.argv[1:]
for step in range(1, 4):
    print("step", step, "loss", 4 / step + int(seed) / 100 + len(optimizer))
print("val", 1 + int(seed) / 100)
"""


def test_each_cell_is_a_row_with_what_the_program_told(tmp_path):
    runs = Scripted(tmp_path, PLAIN, optimizers="[one, three]", seeds="[1, 2]")
    said = runs.run()
    assert said.code == 0, said.out + said.err
    rows = {(row["optimizer"], row["seed"]): row for row in runs.rows()}
    assert len(rows) == len(runs.rows()) == 4
    for (optimizer, seed), row in rows.items():
        assert (row["status"], row["reason"], row["steps"]) == ("ok", "", "3")
        assert float(row["val_loss_final"]) == 1 + int(seed) / 100
        assert float(row["train_loss_final"]) == 4 / 3 + int(seed) / 100 + len(optimizer)
        assert (row["corpus"], row["corpus_sha256"], row["eval_protocol"]) == ("", "", "")
        assert runs.curve(row)[-1][0] == "3"
    assert "4 of 4 runs ok" in said.out


def test_what_is_done_is_not_run_again(tmp_path):
    runs = Scripted(tmp_path, PLAIN)
    assert runs.run().code == 0
    before = runs.ends()
    assert runs.run().code == 0
    assert runs.ends() == before
    runs.script += "\n# another program"
    runs.run()
    assert len(runs.ends()) == 4


def test_a_program_without_a_loss_shows_its_metric(tmp_path):
    runs = Scripted(tmp_path, "print('acc 0.75')", program="seeds: replicates", seeds="[1]")
    runs.program += "\nmetrics: {acc: {better: higher}}"
    text = runs.write().read_text().replace("'val (?P<val_loss>", "'acc (?P<acc>")
    runs.matrix.write_text(text)
    said = command("run", runs.matrix, "--out", runs.out, "--runtime", "local")
    assert said.code == 0, said.out + said.err
    (row,) = runs.rows()
    assert json.loads(row["metrics"]) == {"acc": 0.75}
    assert "acc 0.75" in said.out


@pytest.mark.slow
def test_limits_timeout_ends_a_program_that_goes_on(tmp_path):
    script = "import time\nprint('step 1 loss 2', flush=True)\ntime.sleep(600)"
    runs = Scripted(tmp_path, script, "seeds: replicates", seeds="[1]", timeout_s=3)
    assert runs.run().code == 1
    (row,) = runs.rows()
    assert row["status"] == "timeout"
    assert "timeout_s" in row["reason"]
    assert row["val_loss_final"] == ""
    assert float(row["wall_time_s"]) < 30
    assert runs.curve(row) or row["stage"]


def test_data_that_change_between_cells_end_the_run_and_keep_the_rows(tmp_path):
    (tmp_path / "text").write_text("abc")
    script = f"""
    import sys
    from pathlib import Path
    print("val", len(Path("data/text").read_text()))
    Path({str(tmp_path / "text")!r}).write_text("other text")
    """
    runs = Scripted(tmp_path, script, program="seeds: replicates\ndata: {text: ./text}")
    said = runs.run()
    assert said.code == 2
    (row,) = runs.rows()
    assert row["status"] == "crashed"
    assert "it changed its data, which other cells read as well" in row["reason"]
    assert f"{tmp_path / 'text'} changed while cells ran" in said.err
    assert "Run again" in said.err
    (tmp_path / "text").write_text("abcdef")
    runs.script = "print('val', 2)"
    assert runs.run().code == 0  # with what is there now: other runs
    assert len({row["run_id"] for row in runs.rows()}) == 3


# --- Several runs in one process ----------------------------------------------------------------

TRIALS = r"""
seeds: replicates
trials: '^run \d+'
"""
THREE = """
import time
print("warming up", flush=True)
for run in range({runs}):
    print("run", run, flush=True)
    for step in range(1, 3):
        time.sleep(0.05)
        print("step", step, "loss", step + run, flush=True)
    print("val", 1 + run / 10, flush=True)
"""


def of_trials(folder: Path, script: str, **asked) -> Scripted:
    """The command has no {seed}: one process makes the runs of all."""
    asked = {"program": TRIALS, "seeds": "[1, 2, 3]", "arguments": '"{optimizer}"'} | asked
    return Scripted(folder, script, **asked)


def losses(runs: Scripted) -> dict[str, float]:
    return {row["seed"]: float(row["val_loss_final"]) for row in runs.rows()}


def test_runs_of_one_process_are_a_row_each_and_share_its_time(tmp_path):
    runs = of_trials(tmp_path, THREE.format(runs=3))
    before = time.monotonic()
    said = runs.run()
    took_s = time.monotonic() - before
    assert said.code == 0, said.out + said.err
    assert runs.ends() == [("1", "1", "ok"), ("2", "1", "ok"), ("3", "1", "ok")]
    assert losses(runs) == {"1": 1, "2": 1.1, "3": 1.2}
    rows = runs.rows()
    assert len({row["run_id"] for row in rows}) == 3
    assert len({row["arm_id"] for row in rows}) == 1
    assert {row["log_path"] for row in rows} == {rows[0]["log_path"]}
    process = runs.result(rows[0])
    walls = [float(row["wall_time_s"]) for row in rows]
    inside = process["finished"] - process["started"]
    assert inside <= sum(walls) <= took_s
    assert all(wall > 0.05 for wall in walls)
    # What the process took to start is the first one's, what it took to end the last one's.
    assert [float(row["startup_time_s"]) > 0 for row in rows] == [True, False, False]
    assert [float(row["teardown_time_s"]) > 0 for row in rows] == [False, False, True]
    for row in rows:
        parts = ("startup", "teardown", "unaccounted", "train", "eval")
        told = sum(float(row[f"{part}_time_s"] or 0) for part in parts)
        assert told == pytest.approx(float(row["wall_time_s"]))


def test_each_run_has_its_own_files(tmp_path):
    runs = of_trials(tmp_path, THREE.format(runs=3))
    assert runs.run().code == 0
    for number, row in enumerate(runs.rows()):
        assert {"curve.csv", "steps.csv", "spec.json"} <= {
            file.name for file in runs.cell(row).iterdir()
        }
        assert json.loads((runs.cell(row) / "spec.json").read_text())["run_id"] == row["run_id"]
        points = runs.curve(row)
        assert [point[0] for point in points if point[2]] == ["2"]
        assert float(points[-1][2]) == 1 + number / 10
    left = [file.name for file in runs.cell(runs.rows()[0]).glob("*-[0-9].csv")]
    assert left == []


def test_fewer_runs_than_seeds_leave_rows_that_say_so(tmp_path):
    runs = of_trials(tmp_path, THREE.format(runs=2))
    assert runs.run().code == 1
    assert runs.ends() == [("1", "1", "ok"), ("2", "1", "ok"), ("3", "1", "crashed")]
    last = runs.rows()[-1]
    assert "it ended by itself; its process had begun 2 of the 3 runs to make" in last["reason"]
    assert last["val_loss_final"] == ""


def test_more_runs_than_seeds_are_told_and_left_out(tmp_path):
    runs = of_trials(tmp_path, THREE.format(runs=5))
    said = runs.run()
    assert said.code == 0, said.err
    assert losses(runs) == {"1": 1, "2": 1.1, "3": 1.2}
    assert "worker.log tells of 5, and 3 were open" in said.out
    assert "GPUs" not in said.out


def test_a_crash_in_the_middle_leaves_what_was_done(tmp_path):
    script = THREE.format(runs=3).replace(
        'print("val"', 'if run == 1: exit("broken")\n    print("val"'
    )
    runs = of_trials(tmp_path, script)
    assert runs.run().code == 1
    assert runs.ends() == [("1", "1", "ok"), ("2", "1", "crashed"), ("3", "1", "crashed")]
    _, middle, last = runs.rows()
    assert middle["reason"].startswith("exit code 1")
    assert "broken" in middle["reason"]
    assert "had begun 2 of the 3 runs" in last["reason"]
    assert runs.run().code == 1
    assert len(runs.rows()) == 3  # they are done: a failure stays


def test_a_run_that_diverges_spoils_no_other(tmp_path):
    script = THREE.format(runs=3).replace("1 + run / 10", "1 + run / 10 if run != 1 else 'nan'")
    runs = of_trials(tmp_path, script)
    assert runs.run().code == 1
    assert [end[2] for end in runs.ends()] == ["ok", "diverged", "ok"]
    assert "nan" in runs.rows()[1]["reason"]


def test_a_run_without_a_figure_spoils_no_other(tmp_path):
    script = THREE.format(runs=3).replace('print("val"', 'if run != 1: print("val"')
    runs = of_trials(tmp_path, script)
    assert runs.run().code == 1
    assert [end[2] for end in runs.ends()] == ["ok", "crashed", "ok"]
    assert "val_loss" in runs.rows()[1]["reason"]


@pytest.mark.slow
def test_time_runs_out_for_the_process(tmp_path):
    script = THREE.format(runs=3).replace(
        'print("val"', 'time.sleep(600 if run == 1 else 0)\n    print("val"'
    )
    runs = of_trials(tmp_path, script, timeout_s=6)
    assert runs.run().code == 1
    assert runs.ends() == [("1", "1", "ok"), ("2", "1", "timeout"), ("3", "1", "timeout")]
    for row in runs.rows()[1:]:
        assert "timeout_s" in row["reason"]
    assert "had begun 2 of the 3 runs" in runs.rows()[2]["reason"]


def started(runs: Scripted) -> "subprocess.Popen[str]":
    words = ["run", runs.write(), "--out", runs.out, "--runtime", "local", "--jobs", "1"]
    return subprocess.Popen(
        [sys.executable, "-m", "bench", *map(str, words)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    until = time.monotonic() + 120
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.05)


WAITS = """
import time
from pathlib import Path
here = Path({folder!r})
for run in range(3):
    print("run", run, flush=True)
    print("step 1 loss 2", flush=True)
    if run == 1 and not (here / "go").exists():
        (here / "here").touch()
        time.sleep(600)
    print("val", 1 + run / 10, flush=True)
"""


def test_ctrl_c_in_the_middle_keeps_what_was_done_and_the_next_run_makes_the_rest(tmp_path):
    runs = of_trials(tmp_path, WAITS.format(folder=str(tmp_path)))
    runner = started(runs)
    wait_for(tmp_path / "here")
    runner.send_signal(signal.SIGINT)
    _, said = runner.communicate(timeout=60)
    assert runner.returncode == 130, said
    assert runs.ends() == [
        ("1", "1", "ok"),
        ("2", "1", "interrupted"),
        ("3", "1", "interrupted"),
    ]
    (tmp_path / "go").touch()
    said = command("plan", runs.matrix, "--out", runs.out, "--runtime", "local")
    assert "3 cells, 3 selected, 1 of them done" in said.out
    answer = runs.run()
    assert answer.code == 0, answer.out + answer.err
    assert runs.ends()[3:] == [("2", "2", "ok"), ("3", "2", "ok")]
    assert "tells of 3, and 2 were open" in answer.out
    assert runs.run().code == 0
    assert len(runs.rows()) == 5


KILLED_ONCE = """
import os, signal
from pathlib import Path
here = Path({folder!r}) / "killed"
for run in range(3):
    print("run", run, flush=True)
    print("step 1 loss 2", flush=True)
    if run == 1 and not here.exists():
        here.touch()
        os.kill({whom}, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGSTOP)
    print("val", 1 + run / 10 + 5 * here.exists(), flush=True)
"""


@pytest.fixture
def failing_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if NVML had told of a fault whenever a run crashed."""

    def with_fault(row: dict[str, Any], *seen: Any) -> dict[str, Any]:
        failed = {"status": "interrupted", "reason": f"{GPU_FAILED}Xid 79"}
        return row | failed if row["status"] == "crashed" else row

    monkeypatch.setattr(attempt, "with_gpu_fault", with_fault)


@pytest.mark.usefixtures("failing_gpu")
def test_a_fault_of_the_machine_is_made_good_for_the_runs_that_it_took(tmp_path):
    """Those before it are done: they are not run until they fail."""
    script = KILLED_ONCE.format(folder=str(tmp_path), whom="os.getpid()")
    runs = of_trials(tmp_path, script, retries=1)
    said = runs.run()
    assert said.code == 0, said.out + said.err
    assert runs.ends() == [
        *(("1", "1", "ok"), ("2", "1", "interrupted"), ("3", "1", "interrupted")),
        *(("2", "2", "ok"), ("3", "2", "ok")),
    ]
    lost = [row["reason"] for row in runs.rows() if row["status"] == "interrupted"]
    assert lost[0] == f"{GPU_FAILED}Xid 79"
    assert lost[1].startswith(f"{GPU_FAILED}Xid 79; its process had begun 2 of the 3 runs")
    assert "it runs once more" in said.out
    assert said.out.count("seed 1: val loss") == 1
    assert "3 of 3 runs ok" in said.out


@pytest.mark.usefixtures("failing_gpu")
def test_retries_come_to_an_end(tmp_path):
    script = KILLED_ONCE.format(folder=str(tmp_path), whom="os.getpid()")
    runs = of_trials(tmp_path, script.replace("here.touch()", "pass"), retries=1)
    assert runs.run().code == 1
    # The second process begins anew: its first run is the second seed's.
    assert runs.ends() == [
        *(("1", "1", "ok"), ("2", "1", "interrupted"), ("3", "1", "interrupted")),
        *(("2", "2", "ok"), ("3", "2", "interrupted")),
    ]


def test_a_program_that_is_killed_alone_has_crashed_by_what_the_cell_says(tmp_path):
    """It may have done that itself: no fault of the machine, and not tried again."""
    script = KILLED_ONCE.format(folder=str(tmp_path), whom="os.getpid()")
    runs = of_trials(tmp_path, script, retries=1)
    assert runs.run().code == 1
    assert [end[2] for end in runs.ends()] == ["ok", "crashed", "crashed"]
    assert runs.rows()[1]["reason"].startswith(f"{CELL_SAYS}ended by SIGKILL")


def test_a_process_that_is_killed_as_a_whole_is_run_again(tmp_path):
    """The runner inside as well: it left no result, and so no run is known to be done."""
    script = KILLED_ONCE.format(folder=str(tmp_path), whom="os.getppid()")
    runs = of_trials(tmp_path, script, retries=1)
    assert runs.run().code == 0
    assert [end[2] for end in runs.ends()] == ["crashed"] * 3 + ["ok"] * 3


def test_bars_of_a_terminal_take_runs_that_no_process_of_their_own_makes(tmp_path):
    display = LiveDisplay(Console(quiet=True))
    cells = load_matrix(of_trials(tmp_path, "pass").write()).cells
    row = {"status": "ok", "val_loss_final": 1.0, "wall_time_s": 1.0}
    with display.open(cells, None):
        display.started(cells[0])
        for cell in cells:
            display.ended(cell, row, None)
    assert display.count == 3


def test_arms_have_a_process_each(tmp_path):
    runs = of_trials(tmp_path, THREE.format(runs=3), optimizers="[one, two]")
    said = runs.run()
    assert said.code == 0, said.out + said.err
    rows = runs.rows()
    assert len(rows) == 6
    assert len({row["log_path"] for row in rows}) == 2
    for optimizer in ("one", "two"):
        found = [row["val_loss_final"] for row in rows if row["optimizer"] == optimizer]
        assert found == ["1.0", "1.1", "1.2"]


def test_the_callers_path_and_home_decide_nothing(tmp_path, monkeypatch):
    other = tmp_path / "bin" / "sort"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\necho val 99\n")
    other.chmod(0o755)
    (tmp_path / ".rc").write_text("val 98\n")
    monkeypatch.setenv("PATH", str(other.parent), prepend=":")
    monkeypatch.setenv("HOME", str(tmp_path))
    script = """
    import os, subprocess
    assert not os.listdir(os.path.expanduser("~"))
    print(subprocess.run(["sort"], input="val 2", text=True, capture_output=True).stdout)
    """
    runs = Scripted(tmp_path, script, seeds="[1]")
    assert runs.run().code == 0
    assert [row["val_loss_final"] for row in runs.rows()] == ["2.0"]
