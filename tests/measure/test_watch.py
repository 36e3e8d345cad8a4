"""Readings around real processes, over a stub of NVIDIA's library."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.border.spec import CellFiles
from bench.launch.job import Exit, Job, Stop, Watcher
from bench.matrix.expansion import load_matrix
from bench.measure import watch as watching
from bench.measure.figures import Phases, columns, own_mib
from bench.measure.gpu_reader import NOTHING, GpuSettings
from bench.measure.host import CellProcesses
from bench.measure.listed import find_gpus
from bench.measure.machine import this_machine
from bench.measure.watch import Readings, Watch
from bench.run.attempt import run_attempt
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub, Reading, error
from tests.builders.two_gpus import OTHERS, OURS, SAID, moment, without_energy

pytest_plugins = "tests.builders.nvml_stub"

NEVER_S = 3600.0  # between two readings: no second one comes by itself
SLEEPER = "import sys; print('here', flush=True); sys.stdin.read()"
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"])
print(child.pid, flush=True)
sys.stdin.read()
child.wait()
"""


@contextmanager
def running(program: str) -> Iterator[tuple[int, str]]:
    """(pid, its first line) of a Python program that ends with its input."""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        try:
            yield child.pid, child.stdout.readline().strip()
        finally:
            child.communicate()


@pytest.fixture
def worker() -> Iterator[int]:
    with running(SLEEPER) as (pid, _):
        yield pid


def finder(pid: int) -> Callable[[], CellProcesses]:
    return lambda: CellProcesses(pid, own_cgroup=None)


def until(holds: Callable[[], Any], within_s: float = 20) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


def samples_thread() -> threading.Thread:
    (found,) = [thread for thread in threading.enumerate() if thread.name == "samples"]
    return found


def next_reading(watch: Watch) -> None:
    """Wait for a reading that began after now."""
    seen = len(watch.readings.gpu)
    until(lambda: len(watch.readings.gpu) >= seen + 2)


def watch_worker(nvml: NvmlStub, worker: int, listed: Mapping[int, float]) -> Readings:
    """Readings of a worker that comes to be listed like this."""
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {}})
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        nvml.change(**{"gpu1.processes": listed})
        watch.event({"stage": "import"})
        until(lambda: watch.readings.found)
        next_reading(watch)
    return watch.readings


def span_of(readings: Readings) -> tuple[float, float]:
    return readings.gpu[0][0], readings.gpu[-1][0]


def test_the_baseline_is_from_before_the_launch(nvml: NvmlStub, worker: int) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    with Watch(("GPU-bbbb",), [0], NEVER_S) as watch:
        baseline = watch.readings.baseline
        nvml.change(**{"gpu1.memory_used_mib": 5000, "gpu1.power_limit_w": 100})
        watch.started(finder(worker))
    assert baseline is not None
    assert baseline is watch.readings.baseline
    assert without_energy(baseline.sample) == SAID
    assert baseline.settings == GpuSettings(650.0, 700.0, app_clocks_set=True)
    assert watch.readings.gpu[-1][1].sample.used_mib == 5000  # and one reading after the end


def test_readings_wait_for_their_time_and_the_waits_block(nvml: NvmlStub, worker: int) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300, 4242: 10}})
    began = time.monotonic()
    with Watch(("GPU-bbbb",), [0], 0.1) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "train"})
        until(lambda: len(watch.readings.gpu) > 8)
        task = Path(f"/proc/self/task/{samples_thread().native_id}")
        cpu_s = int((task / "schedstat").read_text().split()[0]) / 1e9
        elapsed_s = time.monotonic() - began
    moments = [at for at, _ in watch.readings.gpu[:9]]
    assert all(at >= began + 0.1 * number for number, at in enumerate(moments))
    assert moments == sorted(moments)
    assert cpu_s < elapsed_s / 4  # a thread that polls has all of it


def test_the_machines_processes_are_walked_only_for_new_ones(nvml: NvmlStub, worker: int) -> None:
    walks = []

    class Counted(CellProcesses):
        def pids(self) -> set[int]:
            walks.append(1)
            return super().pids()

    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300, 4242: 10}})
    with Watch(("GPU-bbbb",), [], 0.01) as watch:
        watch.started(lambda: Counted(worker, own_cgroup=None))
        watch.event({"stage": "train"})
        until(lambda: len(watch.readings.gpu) > 30)
        by_host = len(watch.readings.host)  # each of its readings walks as well
        assert len(walks) <= by_host + 1
        nvml.change(**{"gpu1.processes": {worker: 300, 4242: 10, os.getpid(): 5}})
        next_reading(watch)
    assert watch.readings.gpu[-1][1].own_pids == {worker}


def test_the_context_is_read_as_soon_as_the_worker_reads_its_data(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    heard = []
    with Watch(("GPU-bbbb",), [0], NEVER_S, heard.append) as watch:
        until(lambda: watch.readings.gpu)
        watch.event({"stage": "import"})
        assert len(watch.readings.gpu) == 1
        ready = time.monotonic()
        watch.event({"stage": "data"})
        until(lambda: len(watch.readings.gpu) == 2)
        assert watch.readings.gpu[1][0] >= ready
    assert heard == [{"stage": "import"}, {"stage": "data"}]


def test_own_and_foreign_processes_are_told_apart(nvml: NvmlStub, worker: int) -> None:
    readings = watch_worker(nvml, worker, {worker: 300, 4242: 200, os.getpid(): 50})
    last = readings.gpu[-1][1]
    assert last.sample.processes == {worker: 300.0, 4242: 200.0, os.getpid(): 50.0}
    assert last.own_pids == {worker}
    assert own_mib(last) == 300.0


def test_a_child_of_the_worker_is_the_cells(nvml: NvmlStub) -> None:
    with running(PARENT) as (parent, line):
        child = int(line)
        readings = watch_worker(nvml, parent, {parent: 300, child: 40, 4242: 200})
        last = readings.gpu[-1][1]
        assert last.own_pids == {parent, child}
        assert own_mib(last) == 340.0


def test_a_process_that_is_listed_before_the_cell_is_found_is_its_own_afterwards(
    nvml: NvmlStub, worker: int
) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300}})
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        next_reading(watch)
        assert watch.readings.gpu[-1][1].own_pids == frozenset()  # it has not spoken yet
        assert watch.readings.found is None
        watch.event({"stage": "import"})
        until(lambda: watch.readings.gpu[-1][1].own_pids == {worker})
    assert "processes" not in watch.readings.reasons


def test_memory_of_its_own_processes(nvml: NvmlStub, worker: int) -> None:
    idle: dict[str, Reading] = {"gpu1.memory_used_mib": 100, "gpu1.processes": {4242: 90}}
    nvml.write(TWO_GPUS | OTHERS | OURS | idle)
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "import"})
        until(lambda: watch.readings.found)
        nvml.change(**{"gpu1.processes": {worker: 410, 4242: 90}})
        begin = time.monotonic()
        watch.event({"stage": "data"})
        next_reading(watch)
        end = time.monotonic()
        for size in (900, 700):
            nvml.change(**{"gpu1.processes": {worker: size, 4242: 2000}})
            next_reading(watch)
    row = columns(watch.readings, Phases(context=(begin, end)))
    memory = {key: value for key, value in row.items() if key.startswith("gpu_mem")}
    assert memory == {
        "gpu_mem_nvml_peak_mib": 900.0,
        "gpu_mem_source": "process",
        "gpu_mem_context_mib": 410.0,
    }


@pytest.mark.parametrize("listed", ["under another number", "without its memory", "not at all"])
def test_memory_of_the_device_where_nvml_does_not_tell_the_cells_own(
    nvml: NvmlStub, worker: int, listed: str
) -> None:
    lists: dict[str, Reading] = {
        "under another number": {99_999_999: 650},
        "without its memory": {worker: None},
        "not at all": None,
    }
    idle: dict[str, Reading] = {"gpu1.memory_used_mib": 100, "gpu1.processes": {}}
    nvml.write(TWO_GPUS | OTHERS | OURS | idle)
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "import"})
        until(lambda: watch.readings.found)
        for used_mib in (520, 800, 600):
            if used_mib == 800:
                begin, end = span_of(watch.readings)
            nvml.change(**{"gpu1.processes": lists[listed], "gpu1.memory_used_mib": used_mib})
            next_reading(watch)
    row = columns(watch.readings, Phases(context=(begin, end)))
    assert row["gpu_mem_source"] == "device_delta"
    assert row["gpu_mem_nvml_peak_mib"] == 700.0
    assert row["gpu_mem_context_mib"] == 420.0
    own = watch.readings.gpu[-1][1].own_pids
    assert own == ({worker} if listed == "without its memory" else set())


def test_no_memory_at_all_is_empty(nvml: NvmlStub, worker: int) -> None:
    nvml.write(TWO_GPUS)
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        next_reading(watch)
    row = columns(watch.readings, Phases())
    assert [key for key, value in row.items() if key.startswith("gpu") and value is not None] == []
    assert "Not Supported" in watch.readings.reasons["gpu memory"]


def test_nothing_is_read_where_nothing_is_asked_for(nvml: NvmlStub, worker: int) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    heard = []
    with Watch(("GPU-bbbb",), [0], 0, heard.append) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "data"})
        assert [thread for thread in threading.enumerate() if thread.name == "samples"] == []
    readings = watch.readings
    assert (readings.gpu, readings.host, readings.baseline) == ([], [], None)
    assert readings.reasons == {"samples": "not read: --sample-ms 0"}
    assert heard == [{"stage": "data"}]


def test_a_gpu_that_disappears_half_way(nvml: NvmlStub, worker: int) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300}})
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "train"})
        until(lambda: watch.readings.gpu and watch.readings.gpu[-1][1].own_pids)
        before = time.monotonic()
        nvml.change(**{"gpu1.lost": 1})
        next_reading(watch)
        nvml.change(**{"gpu1.lost": None})
        next_reading(watch)
    samples = [reading.sample for _, reading in watch.readings.gpu]
    assert samples[-1] == NOTHING
    row = columns(watch.readings, Phases(train=(span_of(watch.readings),)))
    assert row["gpu_mem_nvml_peak_mib"] == 300.0
    assert row["gpu_util_mean_pct"] is None  # of a part of the training it would be no mean
    reason = watch.readings.reasons["gpu device"]
    assert "GPU is lost" in reason
    assert moment(reason) >= before - 0.001
    assert watch.readings.host  # the rest is read on


@pytest.mark.parametrize("failing", [RuntimeError("no such thing"), OSError(5, "bad disk")])
def test_a_search_for_processes_that_fails_is_a_reason(nvml: NvmlStub, failing: Exception) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)

    def fail() -> CellProcesses:
        raise failing

    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(fail)
        watch.event({"stage": "train"})
        next_reading(watch)
    assert watch.readings.reasons == {"processes": f"{type(failing).__name__}: {failing}"}
    assert without_energy(watch.readings.gpu[-1][1].sample) == SAID


def test_processes_that_cannot_be_told_are_looked_for_a_few_times_only(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    asked = []
    with Watch(("GPU-bbbb",), [0], 0.005) as watch:
        watch.started(lambda: asked.append(1))
        watch.event({"stage": "train"})
        until(lambda: len(watch.readings.gpu) > 10)
    assert len(asked) == watching.FIND_TRIES
    assert "were not found" in watch.readings.reasons["processes"]


def test_a_reading_of_the_host_that_fails_leaves_those_of_the_gpu(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(cpus: Any, cell: Any) -> None:
        raise ValueError("invalid literal: '<unknown>'")

    monkeypatch.setattr(watching, "read_host", fail)
    nvml.write(TWO_GPUS | OTHERS | OURS)
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        next_reading(watch)
    assert watch.readings.reasons["host samples"] == "ValueError: invalid literal: '<unknown>'"
    assert watch.readings.host == []


def test_a_thread_of_readings_that_breaks_is_a_reason(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    monkeypatch.setattr("bench.measure.watch.HOST_EVERY_S", None)  # which no moment can be added to
    with Watch(("GPU-bbbb",), [0], 0.1) as watch:
        until(lambda: "samples" in watch.readings.reasons)
    assert "TypeError" in watch.readings.reasons["samples"]
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()  # closed all the same


class Hanging:
    """Makes every call of NVML wait: its script becomes a pipe that nobody writes to."""

    def __init__(self, nvml: NvmlStub) -> None:
        self.nvml = nvml
        self.script = Path(nvml.environment["NVML_STUB"])
        self.pipe = self.script.with_name("pipe")
        self.at_last = threading.Timer(10, self.end)  # who waits for good fails, and hangs no test

    def begin(self) -> None:
        os.mkfifo(self.pipe)
        double = self.script.with_name("double")
        os.link(self.pipe, double)
        double.replace(self.script)
        self.at_last.start()

    def end(self) -> None:
        """The call that waits finds an empty script, later ones the readings as they were."""
        self.at_last.cancel()
        self.nvml.change()
        os.close(os.open(self.pipe, os.O_RDWR))


def test_a_call_that_hangs_ends_in_a_row_without_it(
    nvml: NvmlStub, worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300}})
    hanging = Hanging(nvml)
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        watch.started(finder(worker))
        watch.event({"stage": "train"})
        until(lambda: watch.readings.gpu and watch.readings.gpu[-1][1].own_pids)
        thread = samples_thread()
        hanging.begin()
        monkeypatch.setattr(watching, "PATIENCE_S", 0.2)
    assert thread.is_alive()
    assert watch.readings.reasons["samples"] == "the last reading has not come back for 0.2 s"
    assert (watch.readings.lost or "").startswith("NVML has not answered since ")
    assert columns(watch.readings, Phases())["gpu_mem_nvml_peak_mib"] == 300.0
    hanging.end()
    thread.join(20)
    assert not thread.is_alive()


def test_a_baseline_that_comes_after_the_launch_is_none(
    nvml: NvmlStub, worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "PATIENCE_S", 0.2)
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.processes": {worker: 300}})
    hanging = Hanging(nvml)
    hanging.begin()
    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        monkeypatch.setattr(watching, "PATIENCE_S", 20)
        watch.started(finder(worker))
        watch.event({"stage": "train"})
        baseline = watch.readings.baseline
        hanging.end()
        until(lambda: watch.readings.gpu)
    assert watch.readings.baseline is baseline
    assert baseline is not None
    assert baseline.sample == NOTHING
    assert watch.readings.reasons["baseline"] == "NVML did not answer for 0.2 s"
    assert watch.readings.lost is None


def test_a_search_for_processes_that_hangs_is_no_gpu_that_is_lost(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    hung, go_on = threading.Event(), threading.Event()

    def find() -> None:
        hung.set()
        go_on.wait(20)

    with Watch(("GPU-bbbb",), [0], 0.01) as watch:
        until(lambda: watch.readings.gpu)
        watch.started(find)
        watch.event({"stage": "train"})
        assert hung.wait(20)
        monkeypatch.setattr(watching, "PATIENCE_S", 0.2)
    assert "samples" in watch.readings.reasons
    assert watch.readings.lost is None
    go_on.set()


def test_an_error_of_the_cell_is_passed_on_and_ends_the_readings(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    with pytest.raises(OSError, match="the engine is gone"), Watch(("GPU-bbbb",), [0], 0.01):
        raise OSError("the engine is gone")
    assert "samples" not in [thread.name for thread in threading.enumerate()]


class LauncherOf:
    """Its cell leaves this env.json, and says nothing."""

    runtime = "fake"
    enforces_memory = False
    enforces_cpus = True

    def __init__(self, env: str | None) -> None:
        self.env = env

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        began = time.monotonic()
        if self.env is not None:
            job.files.env.write_text(self.env)
        return Exit("itself", 1, began, time.monotonic())


@pytest.mark.parametrize(
    ("left", "worker"),
    [
        ('{"threads": 1}', {"threads": 1}),
        (None, {}),
        ('{"threads":', {}),
        ("[" * 100_000 + "]" * 100_000, {}),  # deeper than the parser goes
    ],
    ids=["whole", "missing", "cut off", "too deep"],
)
def test_reasons_are_written_whatever_the_worker_left(
    nvml: NvmlStub, tiny_matrix: Path, tmp_path: Path, left: str | None, worker: dict[str, Any]
) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.energy_w": None, "gpu1.temperature_c": None})
    cell = load_matrix(tiny_matrix).cells[0]
    files = CellFiles(tmp_path)
    job = Job(cell.spec, cell.limits, files, tmp_path / "text.txt", (0,), ("GPU-bbbb",))
    (columns,) = run_attempt(job, LauncherOf(left), lambda event: None, Stop(), sample_ms=100)
    assert columns["status"] == "crashed"
    env = json.loads(files.env.read_text())
    assert env["worker"] == worker
    assert set(env["launcher"]["not_read"]) == {"gpu energy", "gpu temperature", "processes"}
    assert env["launcher"]["gpu_before_launch"]["sample"]["temperature_c"] is None
    assert files.samples.read_text().count("1000.5") >= 1


def test_a_machine_that_loses_its_gpus_is_the_same_machine(nvml: NvmlStub) -> None:
    """Else every settled CPU cell would run again, and its rows would count for two hosts."""
    nvml.write(TWO_GPUS)
    with_gpus = this_machine()
    assert len(with_gpus.gpus.gpus) == 2
    nvml.write({"init": error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)})
    find_gpus.cache_clear()
    without = this_machine()
    assert without.gpus.gpus == ()
    assert without.host_id == with_gpus.host_id
