"""One supervised child: its lines, its limits, its end. The children are small real programs."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.border.options import Limits
from bench.border.turns import PASSES_ON
from bench.launch import process
from bench.launch.baton import PASSED, Baton
from bench.launch.job import Exit, Stop
from bench.launch.local import find_tree, kill_group
from bench.launch.process import Command, supervise
from bench.measure.host import FindProcesses


class Child:
    """Runs a Python text under `supervise`."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "worker.log"
        self.events: list[dict[str, Any]] = []
        self.stop = Stop()

    def started(self, find: FindProcesses) -> None:
        self.find = find

    def event(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def run(
        self,
        text: str,
        cpus: tuple[int, ...] = (),
        baton: Baton | None = None,
        **limits: float,
    ) -> Exit:
        command = Command(
            argv=[sys.executable, "-u", "-c", text],
            environment=os.environ,
            log=self.log,
            limits=Limits(**{"timeout_s": 30.0} | limits),
            find=find_tree,
            kill=kill_group,
            cpus=cpus,
            baton=baton,
        )
        return supervise(command, self, self.stop)


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    monkeypatch.setattr(process, "GRACE_S", 0.5)
    return Child(tmp_path)


def test_json_lines_become_events_also_the_last_without_a_pause(child: Child) -> None:
    ended = child.run("print('{\"step\": 1}'); print('{\"step\": 2}')")
    assert child.events == [{"step": 1}, {"step": 2}]
    assert (ended.ended_by, ended.code, ended.last_event) == ("itself", 0, {"step": 2})


def test_other_output_goes_to_the_log(child: Child) -> None:
    child.run("import sys; print('hello'); print('[1]'); print('an error', file=sys.stderr)")
    assert child.events == []
    log = child.log.read_text()
    assert "[standard output] hello" in log
    assert "[standard output] [1]" in log
    assert "an error" in log


def test_a_line_without_end_does_not_fill_the_memory(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_LINE", 1000)
    ended = child.run("print('x' * 1_000_000, end=''); print(); print('{\"a\": 1}')")
    assert ended.last_event == {"a": 1}


def test_the_exit_code_is_that_of_the_child(child: Child) -> None:
    assert child.run("raise SystemExit(7)").code == 7
    assert child.run("import os; os.kill(os.getpid(), 11)").code == -signal.SIGSEGV


def test_a_child_that_closes_its_output_is_still_waited_for(child: Child) -> None:
    ended = child.run("import os, time; os.close(1); time.sleep(0.3); os._exit(5)")
    assert ended.code == 5
    assert ended.exited - ended.launched >= 0.3


@pytest.mark.slow
def test_time_up_ends_a_child_that_listens_to_sigterm(child: Child) -> None:
    text = "import signal, time; signal.signal(15, lambda *_: exit(9)); time.sleep(60)"
    ended = child.run(text, timeout_s=3)
    assert (ended.ended_by, ended.code) == ("timeout", 9)


def has_ended(pid: int, within_s: float = 10.0) -> bool:
    """A zombie has: nobody waits for an orphan at once."""
    status, deadline = Path(f"/proc/{pid}/stat"), time.monotonic() + within_s
    while time.monotonic() < deadline:
        if not status.exists() or status.read_text().split()[2] == "Z":
            return True
        time.sleep(0.05)
    return False


def test_what_a_child_leaves_behind_is_ended_as_well(child: Child) -> None:
    text = (
        "import json, subprocess\n"
        "print(json.dumps({'pid': subprocess.Popen(['sleep', '60']).pid}))\n"
    )
    ended = child.run(text)
    assert ended.last_event is not None
    assert has_ended(ended.last_event["pid"])


@pytest.mark.slow
def test_time_up_ends_a_deaf_child_and_its_children(child: Child, tmp_path: Path) -> None:
    pid_file = tmp_path / "grandchild"
    text = (
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "if os.fork() == 0:\n"
        f"    open({str(pid_file)!r}, 'w').write(str(os.getpid()))\n"
        "time.sleep(60)\n"
    )
    ended = child.run(text, timeout_s=3)
    assert (ended.ended_by, ended.code) == ("timeout", -signal.SIGKILL)
    assert has_ended(int(pid_file.read_text()))


def test_stop_ends_the_wait(child: Child) -> None:
    threading.Timer(0.5, child.stop.set, ["because"]).start()
    ended = child.run("import time; time.sleep(60)")
    assert (ended.ended_by, ended.stopped_why) == ("interrupt", "because")
    assert ended.exited - ended.launched < 30


def test_a_stop_that_is_set_already_ends_the_child(child: Child) -> None:
    child.stop.set("earlier")
    assert child.run("import time; time.sleep(60)").ended_by == "interrupt"


def test_the_child_is_bound_to_its_cpus(child: Child) -> None:
    cpu = max(os.sched_getaffinity(0))
    text = (
        "import json, os, time\n"
        "time.sleep(0.2)\n"
        "print(json.dumps({'cpus': list(os.sched_getaffinity(0))}))\n"
    )
    ended = child.run(text, cpus=(cpu,))
    assert ended.last_event == {"cpus": [cpu]}


def test_standard_input_stays_open_while_the_runner_lives(child: Child) -> None:
    text = (
        "import select, sys\n"
        "ready, _, _ = select.select([sys.stdin], [], [], 0.5)\n"
        "print('{\"closed\": %s}' % str(bool(ready)).lower())\n"
    )
    assert child.run(text).last_event == {"closed": False}


def test_a_child_that_says_nothing_hangs_and_is_ended(child: Child) -> None:
    text = "import time; print('{\"step\": 1}'); time.sleep(60)"
    ended = child.run(text, heartbeat_s=2.0)
    assert ended.ended_by == "timeout"
    assert ended.stopped_why == "it hung: nothing heard for limits.heartbeat_s = 2 seconds"
    assert ended.last_event == {"step": 1}


@pytest.mark.slow
def test_words_keep_a_child_alive_until_its_time_is_up(child: Child) -> None:
    text = "import time\nwhile True: print('{}'); time.sleep(0.2)"
    ended = child.run(text, heartbeat_s=2.0, timeout_s=4.0)
    assert ended.ended_by == "timeout"
    assert ended.stopped_why == "stopped after limits.timeout_s = 4 seconds"


def test_the_childs_processes_are_found_while_it_runs(child: Child) -> None:
    text = (
        "import subprocess, time\n"
        "subprocess.Popen(['sleep', '30'])\n"
        "time.sleep(0.5); print('{}'); time.sleep(30)\n"
    )
    pids: list[set[int]] = []

    def look(event: dict[str, Any]) -> None:
        found = child.find()
        assert found is not None
        pids.append(found.pids())
        child.stop.set("seen")

    child.event = look  # type: ignore[method-assign]
    child.run(text)
    assert len(pids[0]) == 2


def test_a_child_that_ended_before_it_was_bound_to_its_cpus(
    child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(pid: int, cpus: tuple[int, ...]) -> None:
        raise ProcessLookupError(pid)

    monkeypatch.setattr(os, "sched_setaffinity", gone)
    assert child.run("raise SystemExit(3)", cpus=(0,)).code == 3


# --- In turn --------------------------------------------------------------------------------------

# Passes on twice, and tells what it was told.
IN_TURN = f"""
import json, os
for step in (1, 2):
    print(json.dumps({{"stage": "{PASSES_ON}", "step": step}}))
    print(json.dumps({{"told": os.read(0, 10).decode()}}))
"""


@pytest.fixture
def partner() -> Iterator[tuple[Baton, socket.socket]]:
    """A baton, and the end of who hands it on."""
    theirs, ours = socket.socketpair()
    with theirs, ours:
        yield Baton(theirs), ours


def hand_back(ours: socket.socket, after_s: float) -> threading.Thread:
    """As often as the baton comes, and no earlier."""

    def answer() -> None:
        while ours.recv(1) == PASSED:
            time.sleep(after_s)
            ours.send(PASSED)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    return thread


def test_a_child_that_passes_on_is_told_when_its_turn_comes(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner
    hand_back(ours, 0.3)
    ended = child.run(IN_TURN, baton=baton)
    assert (ended.ended_by, ended.code) == ("itself", 0)
    assert [event["told"] for event in child.events if "told" in event] == ["\n", "\n"]
    assert 0.6 <= ended.waited_s <= ended.exited - ended.launched


@pytest.mark.slow
def test_what_it_waits_for_its_turn_is_no_time_of_its_own(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner
    hand_back(ours, 4.0)
    ended = child.run(IN_TURN, baton=baton, timeout_s=3, heartbeat_s=3)
    assert ended.ended_by == "itself", ended.stopped_why


@pytest.mark.parametrize("text", [IN_TURN, "import time; time.sleep(600)"])
def test_a_child_is_stopped_when_nobody_says_any_more_whose_turn_it_is(
    text: str, child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    """While it waits or has the turn: all that take turns would compute at once."""
    baton, ours = partner
    ours.close()
    ended = child.run(text, baton=baton)
    assert (ended.ended_by, ended.stopped_why) == ("interrupt", process.ALONE)
    assert child.stop.is_set, "the run goes on with other cells"


# Passes on once. What it says in its turn comes in pieces, as an engine's client may hand it on.
IN_PIECES = f"""
import json, os, time
print(json.dumps({{"stage": "{PASSES_ON}"}}))
os.read(0, 1)
for piece in ('{{"stage"', ': "train"}}\\n', 'no event\\n'):
    os.write(1, piece.encode())
    time.sleep(0.2)
"""


def test_a_child_that_passes_on_once_does_so_once_whatever_it_says_next(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner
    passes: list[bytes] = []

    def answer() -> None:
        while passed := ours.recv(1):
            passes.append(passed)
            ours.send(PASSED)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    assert child.run(IN_PIECES, baton=baton).code == 0
    baton.end.close()
    thread.join(10)
    assert passes == [PASSED]


# Passes on and is killed, as the kernel does where memory runs out.
KILLED = f"""
import os, time
print('{{"stage": "{PASSES_ON}"}}')
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""


def test_a_child_that_is_killed_while_it_waits_ends_in_its_turn(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    """What comes next, such as another attempt, would else compute while others do."""
    baton, ours = partner
    handed_back: list[float] = []

    def answer() -> None:
        ours.recv(1)
        time.sleep(1.5)
        handed_back.append(time.monotonic())
        ours.send(PASSED)

    threading.Thread(target=answer, daemon=True).start()
    ended = child.run(KILLED, baton=baton)
    assert handed_back, "it went on while others had the turn"
    assert (ended.ended_by, ended.code) == ("itself", -signal.SIGKILL)
    assert ended.waited_s < 1.5, "it waited for longer than it lived"
    baton.end.setblocking(False)
    with pytest.raises(BlockingIOError):  # else the next attempt would have one turn too many
        baton.end.recv(1)


def test_a_stop_ends_what_waits_for_the_turn_of_a_killed_child(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner

    def answer() -> None:
        ours.recv(1)
        time.sleep(1.5)
        child.stop.set("because")

    threading.Thread(target=answer, daemon=True).start()
    assert child.run(KILLED, baton=baton).code == -signal.SIGKILL


def test_a_wait_that_a_stop_ends_is_no_time_of_its_own_either(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner

    def interrupt() -> None:
        ours.recv(1)
        time.sleep(1.5)
        child.stop.set("because")

    threading.Thread(target=interrupt, daemon=True).start()
    ended = child.run(IN_TURN, baton=baton)
    assert 1.5 <= ended.waited_s <= ended.exited - ended.launched


def test_a_stop_ends_a_child_that_waits_for_its_turn(
    child: Child, partner: tuple[Baton, socket.socket]
) -> None:
    baton, ours = partner
    threading.Thread(target=lambda: (ours.recv(1), child.stop.set("because")), daemon=True).start()
    ended = child.run(IN_TURN, baton=baton)
    assert (ended.ended_by, ended.stopped_why) == ("interrupt", "because")


def test_a_child_that_is_alone_passes_nothing_on(child: Child) -> None:
    ended = child.run(f'print(\'{{"stage": "{PASSES_ON}"}}\')')
    assert (ended.ended_by, ended.waited_s) == ("itself", 0.0)
