"""How a program's cell ends: exit codes, signals, a stop, a runner that is gone."""

import json
import signal
import time
from pathlib import Path

import pytest

from bench.border.identity import OF_PROGRAMS, PACKAGE, SCHEMA_VERSION, program_code_sha256
from bench.border.spec import PHASES
from bench.border.surroundings import RUNNER_GONE, TERMINATED
from bench.records.columns import RUN_COLUMNS
from bench.run.attempt import TEXTS, is_number
from tests.builders.program_cells import ProgramRun

# Starts a process that leads a session of its own, as torchrun's do, and that starts another such.
FAMILY = """
import os, subprocess, sys, time
INNER = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
OUTER = '''
import subprocess, sys, time
inner = subprocess.Popen([sys.executable, "-c", sys.argv[1]], start_new_session=True)
print("pids", inner.pid)
time.sleep(600)
'''
outer = subprocess.Popen([sys.executable, "-c", OUTER, INNER], start_new_session=True)
print("pids", os.getpid(), outer.pid)
time.sleep(1)
"""


def wait_for(ready, what):
    deadline = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.02)


def printed(run: ProgramRun) -> str:
    log = run.place / "log"
    return log.read_text() if log.exists() else ""


def lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def pids(text: str) -> list[int]:
    lines = [line.split()[1:] for line in text.splitlines() if line.startswith("pids")]
    return [int(pid) for line in lines for pid in line]


def test_the_result_is_what_the_launching_side_reads(tmp_path):
    ran = ProgramRun(tmp_path, "print('step 1 loss 2'); print('val 1.5')").run()
    result = ran.result
    assert ran.code == 0
    assert result["schema_version"] == SCHEMA_VERSION
    assert result["run_id"] == json.loads((ran.folder / "spec.json").read_text())["run_id"]
    assert result["code_sha256"] == program_code_sha256()
    assert (result["status"], result["reason"], result["stage"]) == ("ok", None, None)
    assert result["started"] <= result["finished"]
    assert result["context_window"] is None
    assert all(phase in PHASES for phase, _, _ in result["spans"])
    assert "trials" not in result
    assert set(ran.row) <= set(RUN_COLUMNS)
    texts = (*TEXTS, "metrics", "step_time_source")
    for name, value in ran.row.items():
        assert value is None or isinstance(value, str) == (name in texts), name
        assert value is None or isinstance(value, str) or is_number(value)
    assert ran.row["cpu_time_s"] > 0
    assert ran.row["host_rss_peak_mib"] > 1
    assert json.loads((ran.folder / "env.json").read_text())["lines"] == 2


@pytest.mark.parametrize(
    ("ending", "words"),
    [
        ("raise SystemExit(3)", "exit code 3"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "ended by SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "ended by SIGTERM"),
        ("os.abort()", "ended by SIGABRT"),
        ("raise ValueError('wrong')", "exit code 1"),
    ],
)
def test_what_ends_otherwise_has_crashed(tmp_path, ending, words):
    ran = ProgramRun(tmp_path, f"import os, signal; print('val 1.5')\n{ending}").run()
    status, reason = ran.end
    assert (ran.code, status) == (1, "crashed")
    assert reason.startswith(f"{words}; its log ends: ")
    assert "val_loss_final" not in ran.row
    assert ran.result["stage"] == "train"


def test_a_lack_of_memory_is_told_from_the_last_words(tmp_path):
    ran = ProgramRun(tmp_path, "print('val 1.5'); raise MemoryError('of tensors')").run()
    assert ran.end == ("oom", "exit code 1: MemoryError: of tensors")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("no-such-program",), "no-such-program cannot be started: [Errno 2]"),
        (("./main.py",), "./main.py cannot be started: [Errno 8] Exec format error"),
        (("python", "a\0b"), "python cannot be started: embedded null byte"),
    ],
)
def test_what_cannot_be_started_says_so(tmp_path, command, words):
    ran = ProgramRun(tmp_path, "pass", asked={"command": command}).run()
    status, reason = ran.end
    assert (ran.code, status, ran.result["stage"]) == (1, "crashed", "start")
    assert reason.startswith(words)


def test_steps_that_were_asked_for_must_be_reached(tmp_path):
    script = "print('step', int({steps}), 'loss 2'); print('val 1.5')"
    asked = {"steps": 10, "command": ("python", "-c", script)}
    assert ProgramRun(tmp_path / "a", "pass", asked=asked).run().end == ("ok", None)
    asked["command"] = ("python", "-c", script.replace("{steps}", "9"))
    status, reason = ProgramRun(tmp_path / "b", "pass", asked=asked).run().end
    assert status == "crashed"
    assert "at step 9, and the matrix says steps: 10" in reason


# --- Nothing is left running ---------------------------------------------------------------------


def test_nothing_is_left_after_a_normal_end(tmp_path):
    ran = ProgramRun(tmp_path, FAMILY + "print('val 1.5')").run()
    started = pids(ran.log.decode())
    assert len(started) == 3
    assert ran.end == ("ok", None)
    assert not any(lives(pid) for pid in started)


def test_a_daemon_that_holds_the_output_does_not_hold_the_end(tmp_path):
    script = """
    import os, time
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            print("pids", os.getpid())
            while True:
                print("still here")
                time.sleep(0.01)
        os._exit(0)
    os.wait()
    time.sleep(0.3)
    print("val 1.5")
    """
    ran = ProgramRun(tmp_path, script).run()
    assert ran.end == ("ok", None)
    (daemon,) = pids(ran.log.decode())
    assert not lives(daemon)


def test_the_end_of_standard_input_ends_everything(tmp_path):
    run = ProgramRun(tmp_path, FAMILY + "time.sleep(600)")
    process = run.start()
    wait_for(lambda: len(pids(printed(run))) == 3, "the family")
    started = pids(printed(run))
    assert all(lives(pid) for pid in started)
    process.stdin.close()
    assert process.wait(60) == RUNNER_GONE
    process.stdout.close()
    assert not any(lives(pid) for pid in started)
    assert not (run.folder / "result.json").exists()


def test_sigterm_is_passed_on_and_what_is_known_is_written(tmp_path):
    script = """
    import signal, sys, time
    def leave(number, frame):
        print("step 5 loss 1.25")
        sys.exit(0)
    signal.signal(signal.SIGTERM, leave)
    print("step 4 loss 1.5")
    print("val 3")
    time.sleep(600)
    """
    run = ProgramRun(tmp_path, script)
    process = run.start()
    wait_for(lambda: "val" in printed(run), "the program")
    process.send_signal(signal.SIGTERM)
    ran = run.finish(process)
    assert (ran.code, *ran.end) == (1, "interrupted", TERMINATED)
    assert (ran.row["steps"], ran.row["val_loss_best"]) == (5, 3)
    assert "val_loss_final" not in ran.row
    assert [row["step"] for row in ran.table("steps.csv")] == ["4", "5"]


@pytest.mark.slow
def test_what_does_not_hear_sigterm_is_killed_within_the_grace(tmp_path):
    script = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + FAMILY
    run = ProgramRun(tmp_path, script + "time.sleep(600)")
    process = run.start()
    wait_for(lambda: len(pids(printed(run))) == 3, "the family")
    process.send_signal(signal.SIGTERM)
    ran = run.finish(process)
    assert ran.end == ("interrupted", TERMINATED)
    assert not any(lives(pid) for pid in pids(ran.log.decode()))


def test_a_runner_that_is_killed_takes_the_program_with_it(tmp_path):
    run = ProgramRun(tmp_path, "import os, time; print('pids', os.getpid()); time.sleep(600)")
    process = run.start()
    wait_for(lambda: pids(printed(run)), "the program")
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()
    wait_for(lambda: not any(map(lives, pids(printed(run)))), "the program's end")


# --- Several runs of one process -----------------------------------------------------------------

TRIALS = """
print("n_params 7")
for trial in range(3):
    print("=== trial", trial)
    for step in range(1, 4):
        print("step", step, "loss", 10 - step)
    print("val", trial + 0.5)
"""


def test_trials_are_runs_of_their_own(tmp_path):
    asked = {"trials": "^=== trial"}
    ran = ProgramRun(tmp_path, TRIALS, asked=asked).run()
    trials = ran.result["trials"]
    assert [trial["row"]["val_loss_final"] for trial in trials] == [0.5, 1.5, 2.5]
    assert [trial["row"]["steps"] for trial in trials] == [3, 3, 3]
    assert {(trial["status"], trial["reason"], trial["stage"]) for trial in trials} == {
        ("ok", None, None)
    }
    assert trials[0]["end"] == trials[1]["begin"] <= trials[1]["end"] == trials[2]["begin"]
    assert trials[2]["end"] == ran.result["finished"]
    assert ran.result["status"] == "ok"
    assert ran.row["val_loss_final"] == 0.5
    tables = ("curve.csv", "curve-2.csv", "curve-3.csv")
    assert [ran.table(name)[-1]["val_loss"] for name in tables] == ["0.5", "1.5", "2.5"]
    assert [len(ran.table(name)) for name in ("steps.csv", "steps-2.csv", "steps-3.csv")] == [3] * 3
    assert "cpu_time_s" not in trials[0]["row"]


def test_a_failure_is_that_of_the_last_trial_and_a_silent_one_is_a_failure(tmp_path):
    script = TRIALS + "print('=== trial 3')\nprint('=== trial 4')\nprint('val 1')\nexit(4)"
    ran = ProgramRun(tmp_path, script, asked={"trials": "^=== trial"}).run()
    assert [trial["status"] for trial in ran.result["trials"]] == ["ok"] * 3 + ["crashed"] * 2
    assert ran.result["trials"][3]["reason"].startswith("exit code 0, and in ")
    assert ran.result["trials"][4]["reason"].startswith("exit code 4; ")
    assert (ran.code, ran.result["status"]) == (1, "crashed")


def test_a_run_before_the_first_match_is_one_as_well(tmp_path):
    script = "print('val 1'); print('again'); print('val 2')"
    ran = ProgramRun(tmp_path, script, asked={"trials": "again"}).run()
    finals = [trial["row"]["val_loss_final"] for trial in ran.result["trials"]]
    assert finals == [1, 2]


# --- Which files of ours take part ---------------------------------------------------------------

TELL_IMPORTS = """
import runpy, sys
*sys.argv[1:], target = sys.argv[1:]
try:
    runpy.run_module("bench.program", run_name="__main__")
finally:
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "bench"]
    open(target, "w").write("\\n".join(module.__file__ for module in ours))
"""


def test_no_file_of_ours_is_imported_but_those_of_its_identity(tmp_path):
    """What else changes of this program reopens no cell of a program."""
    run = ProgramRun(tmp_path, "print('val 1')")
    arguments = (run.folder, run.code, tmp_path / "files")
    ran = run.finish(run.start(argv=["-P", "-c", TELL_IMPORTS, *map(str, arguments)]))
    assert ran.end == ("ok", None)
    files = [Path(line) for line in (tmp_path / "files").read_text().splitlines()]
    found = {path.relative_to(PACKAGE).as_posix() for path in files}
    packages = {f"{room}/__init__.py" for room in ("border", "program", "worker")}
    own = {f"program/{path.name}" for path in (PACKAGE / "program").glob("*.py")}
    # runpy runs __main__ without a name of its own.
    assert found | {"program/__main__.py"} == {"__init__.py"} | packages | own | set(OF_PROGRAMS)
    assert all((PACKAGE / name).read_text() == "" for name in packages)
