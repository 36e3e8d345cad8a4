"""Every fault ends in one true row or leaves its cell open, and the next run goes on.

Through the command line, with real workers, containers, disks and signals; what has to misbehave
is a copy of the program with one place broken.
"""

import contextlib
import os
import re
import signal
import socket
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.launch.engine import Engine
from bench.records.rows import Row, read_table
from tests.builders.broken import (
    AFTER_STEP,
    AT_END,
    AT_START,
    AT_TRAINING,
    CRASH,
    PATH,
    PAUSE,
    Broken,
    ended,
)

pytestmark = pytest.mark.slow

ENGINE_SOCKET = Path("/var/run/docker.sock")
SEGFAULT = "import ctypes; ctypes.string_at(0)"
KILLED = "import os; os._exit(137)"  # as a shell and an engine report SIGKILL
# Hears no signal, and no thread of it runs: nothing but SIGKILL ends it.
DEAF = """\
import ctypes, pathlib, signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(sys.argv[1], "here").touch()
ctypes.PyDLL(None).sleep(600)
"""
GRACE_S = 1.0  # in a copy whose worker is deaf


def only_row(copy: Broken, runtime: str, exit_code: int = 1) -> Row:
    """Run the one cell there is; its one row."""
    code, out, err = copy.run(runtime)
    assert code == exit_code, out + err
    assert "Traceback" not in err
    (row,) = copy.rows()
    return row


# --- The worker ---------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_not_finite_ends_the_cell_early(
    broken: Broken, runtime: str, value: str
) -> None:
    broken.ask(steps=5000, retries=1)
    broken.insert(AFTER_STEP, f"if self.done == 5: self.losses[5] = math.{value}")
    row = only_row(broken, runtime)
    steps = read_table(broken.log(row).with_name("steps.csv"))
    before = steps[4]
    assert len(steps) < 5000
    assert (row["status"], row["stage"], row["steps"]) == ("diverged", "train", "5")
    assert (before["step"], row["val_loss_final"]) == ("4", "")
    last_finite = f"{float(before['loss']):.6g}"
    assert row["reason"] == (
        f"the loss is not finite at step 5; the last finite loss was {last_finite}"
    )


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ('raise torch.OutOfMemoryError("CUDA out of memory. Tried 2 GiB")', "CUDA out of memory"),
        ("torch.empty(2**60)", "DefaultCPUAllocator"),
    ],
    ids=["cuda", "host"],
)
def test_an_allocator_out_of_memory(broken: Broken, runtime: str, fault: str, words: str) -> None:
    broken.ask(retries=1)
    broken.insert(AFTER_STEP, fault)
    row = only_row(broken, runtime)
    assert (row["status"], row["stage"]) == ("oom", "train")
    assert words in row["reason"]
    assert float(row["host_rss_peak_mib"]) > 0


def test_a_container_that_the_kernel_kills_for_memory(broken: Broken, engine: Engine) -> None:
    broken.ask(memory_gib=0.1, retries=1)
    broken.insert(AT_START, "bytearray(2**30)")
    row = only_row(broken, engine.name)
    assert (row["status"], row["stage"]) == ("oom_killed", "import")
    assert row["reason"] == "the kernel killed it for memory: limits.memory_gib = 0.1"


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("timeout_s", "stopped after limits.timeout_s = 3 seconds"),
        ("heartbeat_s", "it hung: nothing heard for limits.heartbeat_s = 3 seconds"),
    ],
)
def test_a_deaf_worker_is_killed_after_its_time_and_grace(
    broken: Broken, runtime: str, limit: str, words: str
) -> None:
    broken.replace("bench/launch/process.py", "GRACE_S = 10.0", f"GRACE_S = {GRACE_S}")
    broken.ask(retries=1, **{limit: 3})
    broken.insert(AT_START, DEAF)
    row = only_row(broken, runtime)
    assert (row["status"], row["stage"], row["reason"]) == ("timeout", "import", words)
    assert float(row["wall_time_s"]) >= 3 + GRACE_S


@pytest.mark.parametrize(
    ("fault", "name", "attempts"), [(KILLED, "SIGKILL", 2), (SEGFAULT, "SIGSEGV", 1)]
)
def test_who_is_killed_is_tried_again_as_often_as_allowed_and_who_faults_is_not(
    broken: Broken, runtime: str, fault: str, name: str, attempts: int
) -> None:
    broken.ask(retries=1)
    broken.insert(AT_START, fault)
    code, out, _ = broken.run(runtime)
    assert (code, "0 of 1 runs ok, 1 crashed" in out) == (1, True)
    assert [row["status"] for row in broken.rows()] == ["crashed"] * attempts
    assert all(row["reason"].startswith(f"ended by {name}") for row in broken.rows())


def test_an_attempt_that_the_machine_lost_is_made_good_by_the_next(broken: Broken) -> None:
    broken.ask(retries=3)
    once = f"{PATH}({str(broken.root / 'bench' / 'broken')!r}).unlink()\n"
    broken.insert(AT_START, once + KILLED)
    code, out, _ = broken.run("local")
    assert (code, "1 of 1 runs ok;" in out) == (0, True)
    assert [row["status"] for row in broken.rows()] == ["crashed", "ok"]


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("import os; os._exit(0)", "exit code 0; it left no result"),
        (CRASH, "exit code 3; it left no result"),
        ("raise ValueError('made up')", "its log ends: .*ValueError: made up$"),
    ],
    ids=["exit 0", "exit 3", "exception"],
)
def test_an_end_without_a_result(broken: Broken, runtime: str, fault: str, words: str) -> None:
    broken.ask(retries=1)
    broken.insert(AT_START, fault)
    row = only_row(broken, runtime)
    assert (row["status"], row["stage"]) == ("crashed", "import")
    assert re.search(words, row["reason"])


def test_an_exception_in_training(broken: Broken, runtime: str) -> None:
    broken.ask(retries=1)
    broken.insert(AFTER_STEP, "if self.done == 2: raise ValueError('made up')")
    row = only_row(broken, runtime)
    assert (row["status"], row["stage"], row["steps"]) == ("crashed", "train", "2")
    assert row["reason"] == "ValueError: made up"
    assert "in _train" in broken.log(row).read_text()


def test_a_result_that_is_cut_or_of_wrong_types(broken: Broken) -> None:
    """Locally alone: what comes after the exit is the same for every runtime."""
    broken.ask(seeds=4, retries=1)
    fault = """\
        text, n_params = files.result.read_text(), f'"n_params": {cell.known["n_params"]}'
        assert n_params in text
        bad = [f'"n_params": {value}' for value in ("[1]", "NaN", "9" * 400)]
        spoilt = [text[:200], *(text.replace(n_params, other) for other in bad)]
        files.result.write_text(spoilt[spec.seed - 1])
        files.env.write_text("[" * 100_000)
    """
    broken.insert(AT_END, textwrap.dedent(fault))
    code, _, err = broken.run("local")
    assert (code, err) == (1, "")
    assert {row["status"] for row in broken.rows()} == {"crashed"}
    cut, wrong, nan, huge = broken.rows()
    assert "its result cannot be read" in cut["reason"]
    assert "its result has a wrong n_params; the cell says: '[1]'" in wrong["reason"]
    assert "NaN is no number that JSON knows" in nan["reason"]
    assert "its result has a wrong n_params; the cell says: '999" in huge["reason"]


def test_output_that_is_not_the_protocol_goes_to_the_log(broken: Broken, runtime: str) -> None:
    """As on a terminal, whose progress bars show what a worker says."""
    broken.environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm"}
    fault = r"""
        say.stream.write('hello\n[1]\n{"stage": \n' + "[" * 100_000 + "\n\0\ufffd\n")
        say.stream.write('{"stage": [], "step": "x", "loss": {}}\n{"step": 1' + "0" * 400 + "}\n")
        say.stream.write("x" * 50_000_000 + "\n" + "after\n")
    """
    broken.insert(AT_START, textwrap.dedent(fault))
    row = only_row(broken, runtime, exit_code=0)
    assert row["status"] == "ok"
    log = broken.log(row).read_text()
    for line in ("hello", "[1]", '{"stage": ', "after"):
        assert f"[standard output] {line}\n" in log
    assert len(log) < 2_000_000


def test_a_line_without_end_is_stopped_by_time_and_fills_no_disk(
    broken: Broken, runtime: str
) -> None:
    broken.ask(timeout_s=3)
    fault = 'say(stage="s" * 1000)\nwhile True: say.stream.write("x" * 65_536)'
    broken.insert(AT_START, fault)
    row = only_row(broken, runtime)
    assert (row["status"], row["stage"]) == ("timeout", "s" * 80)
    assert broken.log(row).stat().st_size < 2_000_000


# --- The user -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_user_who_interrupts(broken: Broken, runtime: str, number: signal.Signals) -> None:
    """The worker gets its SIGTERM, and time for what it still has to say, however much."""
    broken.ask(seeds=2, retries=1)
    last_words = """\
        except TerminatedError:
            say.stream.write("x" * 300_000 + "\\n")
            say.stream.flush()
            print("heard SIGTERM", file=sys.stderr)
            raise
    """
    waits = "try:\n" + textwrap.indent(PAUSE, "    ") + textwrap.dedent(last_words)
    broken.insert(AT_START, waits)
    runner = broken.start(runtime)
    broken.paused()
    runner.send_signal(number)
    code, out, err = ended(runner)
    assert (code, "1 interrupted, 1 open" in out, err) == (130, True, "")
    (row,) = broken.rows()
    assert "heard SIGTERM" in broken.log(row).read_text()
    assert (row["status"], row["reason"]) == ("interrupted", f"stopped by {number.name}")


def test_a_user_who_interrupts_a_deaf_worker_twice(broken: Broken, runtime: str) -> None:
    broken.replace("bench/launch/process.py", "GRACE_S = 10.0", f"GRACE_S = {GRACE_S}")
    broken.insert(AT_START, DEAF)
    runner = broken.start(runtime)
    broken.paused()
    runner.send_signal(signal.SIGINT)
    time.sleep(GRACE_S / 4)
    runner.send_signal(signal.SIGINT)
    code, out, err = ended(runner)
    assert (code, "1 interrupted" in out, err) == (130, True, "")
    (row,) = broken.rows()
    assert (row["status"], row["reason"]) == ("interrupted", "stopped by SIGINT")


# --- The engine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("stop", "interrupted", "stopped by SIGTERM"),
        ("kill", "crashed", "ended by SIGKILL; it left no result"),
    ],
)
def test_a_container_that_is_ended_by_hand(
    broken: Broken, engine: Engine, command: str, status: str, reason: str
) -> None:
    broken.insert(AT_TRAINING, PAUSE)
    runner = broken.start(engine.name)
    broken.paused()
    engine.command(command, *broken.containers())
    code, _, err = ended(runner)
    assert (code, err) == (1, "")
    (row,) = broken.rows()
    assert (row["status"], row["reason"]) == (status, reason)


def test_an_image_that_is_missing(broken: Broken, engine: Engine) -> None:
    broken.replace("docker/constraints.txt", "torch==", "torch== ")
    code, out, err = broken.run(engine.name)
    assert (code, "runs to make" in out) == (2, False)
    assert "the image for cpu cells is not built" in err
    assert "make image-cpu" in err


def test_an_engine_whose_socket_refuses(broken: Broken, docker: Engine, tmp_path: Path) -> None:
    broken.environment = {**os.environ, "DOCKER_HOST": f"unix://{tmp_path / 'nobody'}"}
    code, out, err = broken.run("docker")
    assert (code, "runs to make" in out) == (2, False)
    assert "docker was asked for and does not answer" in err
    assert "RUNTIME=local" in err


@pytest.fixture
def docker(engine: Engine) -> Engine:
    if engine.name != "docker" or not ENGINE_SOCKET.exists():
        pytest.skip(f"no docker answers at {ENGINE_SOCKET}")
    return engine


@pytest.mark.parametrize("comes_back", ["at once", "later"])
def test_an_engine_that_is_lost_half_way(
    broken: Broken, docker: Engine, tmp_path: Path, comes_back: str
) -> None:
    """The cell has no row; its container goes now, or with the next run, which goes on."""
    broken.insert(AT_START, PAUSE)
    with Proxy(tmp_path / "engine.sock", ENGINE_SOCKET) as proxy:
        broken.environment = {**os.environ, "DOCKER_HOST": f"unix://{proxy.path}"}
        runner = broken.start("docker")
        broken.paused()
        proxy.cut(refuse=comes_back == "later")
        code, out, err = ended(runner)
        assert (code, "0 of 1 runs ok, 1 open" in out, "Traceback" in err) == (1, True, False)
        assert "error: docker " in err
        assert "Cells that were not run stay open; the same command runs them." in err
        assert broken.rows() == []
        assert len(broken.containers()) == (1 if comes_back == "later" else 0)
        proxy.listen()
        broken.mend()
        code, out, err = broken.run("docker")
        assert (code, err) == (0, "")
        assert ("removed 1 container of an earlier run" in out) == (comes_back == "later")


class Proxy:
    """A Unix socket before an engine's own, whose connections can be cut."""

    def __init__(self, path: Path, engine: Path) -> None:
        self.path, self.engine = path, engine
        self.listener: socket.socket | None = None
        self.connections: list[socket.socket] = []
        self.threads: list[threading.Thread] = []

    def __enter__(self) -> "Proxy":
        self.listen()
        return self

    def __exit__(self, *error: object) -> None:
        self.cut(refuse=True)
        for thread in self.threads:
            thread.join()

    def listen(self) -> None:
        if self.listener is None:
            self.path.unlink(missing_ok=True)
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(str(self.path))
            self.listener.listen()
            self._begin(self._accept, self.listener)

    def cut(self, refuse: bool) -> None:
        """Every connection, and with `refuse` those to come."""
        if refuse and self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self.listener = None
        for connection in self.connections:
            with contextlib.suppress(OSError):  # ended already
                connection.shutdown(socket.SHUT_RDWR)

    def _begin(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        self.threads.append(threading.Thread(target=work, args=arguments))
        self.threads[-1].start()

    def _accept(self, listener: socket.socket) -> None:
        with listener, contextlib.suppress(OSError):
            while True:
                client, engine = listener.accept()[0], socket.socket(socket.AF_UNIX)
                engine.connect(str(self.engine))
                self.connections += [client, engine]
                self._begin(self._forward, client, engine)

    def _forward(self, client: socket.socket, engine: socket.socket) -> None:
        back = threading.Thread(target=_pump, args=(engine, client))
        back.start()
        _pump(client, engine)
        back.join()
        client.close()
        engine.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):  # cut
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
