"""Which GPUs cells get: those that were asked for and that nobody computes on, and instances."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest
from rich.console import Console

from bench.border.spec import RunSpec
from bench.errors import GpuError, MissingError, RequestError
from bench.launch.job import Job, Stop
from bench.launch.reach import Reach
from bench.measure.listed import find_gpus
from bench.measure.machine import this_machine
from bench.records.folder import ResultsFolder
from bench.records.rows import read_runs
from bench.run.gpus import GpuRequest
from bench.run.progress import PlainDisplay
from tests.builders.fake_launcher import Bench, FakeLauncher
from tests.builders.nvml_stub import TWO_GPUS, WITH_MIG, NvmlStub, Reading, error
from tests.builders.shared import ROOT
from tests.builders.shared import bench as command

pytest_plugins = "tests.builders.nvml_stub"

A, B = "Stub GPU A (GPU-aaaa)", "Stub GPU B (GPU-bbbb)"
BUSY_A = f"{A} is used by pid 7 (300 MiB)"
BUSY_B = f"{B} is used by pid 8 (memory not told), pid 9 (4 MiB)"
ON_A: dict[str, Reading] = {"gpu0.processes": {7: 300}}
ON_B: dict[str, Reading] = {"gpu1.processes": {8: None, 9: 4}}
IDLE: dict[str, Reading] = {"gpu0.processes": {}, "gpu1.processes": {}}


class Heard(PlainDisplay):
    """Keeps what is said of GPUs; `then` may change them."""

    def __init__(self) -> None:
        super().__init__(Console(quiet=True))
        self.lines: list[str] = []
        self.then: Callable[[str], None] = lambda line: None

    def say(self, line: str) -> None:
        self.lines.append(line)
        self.then(line)


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def bench(
    tiny_matrix: Path, tmp_path: Path, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """Four cuda cells."""
    monkeypatch.setattr("bench.run.gpus.POLL_S", 0.01)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tiny_matrix.write_text(tiny_matrix.read_text().replace("[cpu]", "[cuda]"))
    folder = ResultsFolder(tmp_path / "results")
    return Bench(tiny_matrix, folder, FakeLauncher(), display=heard)


def on(bench: Bench, readings: dict[str, Reading], nvml: NvmlStub) -> None:
    """GPUs as these readings have them, found anew."""
    nvml.write(readings)
    find_gpus.cache_clear()
    bench.gpus = find_gpus()


def given(bench: Bench) -> set[str | None]:
    """The GPUs that cells got."""
    jobs, bench.launcher.jobs = bench.launcher.jobs, []
    return {" ".join(job.gpu_uuids) or None for job in jobs}


# --- Busy ones ----------------------------------------------------------------------------------


def test_a_gpu_that_somebody_computes_on_is_passed_over_and_named(
    bench: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    on(bench, TWO_GPUS | IDLE | ON_A, nvml)
    bench.run()
    assert given(bench) == {"GPU-bbbb"}
    assert heard.lines == [f"passed over: {BUSY_A}"]
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4


def test_with_all_in_use_cuda_cells_are_skipped_with_reason_and_remedy(
    bench: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("[cuda]", "[cpu, cuda]"))
    on(bench, TWO_GPUS | ON_A | ON_B, nvml)
    bench.run()
    assert heard.lines == [f"passed over: {BUSY_A}; {BUSY_B}"]
    assert given(bench) == {None}
    skipped = [row for row in bench.rows() if row["status"] == "skipped"]
    assert len(skipped) == 4
    assert {row["reason"] for row in skipped} == {
        f"no GPU here: in use: {A}, {B}. --wait-for-gpu waits, --gpus GPU-aaaa,GPU-bbbb takes "
        "them all the same, or give the matrix device cpu and choose --only device=cpu"
    }
    nvml.change(**{"gpu0.processes": {77: 12}})  # another one by now
    bench.run()
    assert len(bench.rows()) == 8
    nvml.change(**IDLE)
    bench.run()
    assert given(bench) == {"GPU-aaaa"}
    assert [row["status"] for row in bench.rows()].count("ok") == 8


@pytest.mark.parametrize("busy", [ON_A, ON_A | ON_B])
def test_what_was_done_on_a_gpu_counts_while_it_is_busy(
    bench: Bench, busy: dict[str, Reading], nvml: NvmlStub
) -> None:
    on(bench, TWO_GPUS | IDLE, nvml)
    bench.run()
    assert given(bench) == {"GPU-aaaa"}
    nvml.change(**busy)
    runner = bench.run()
    assert given(bench) == set()
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4
    assert all(row and row["status"] == "ok" for row in runner.rows(bench.cells()))


def test_busy_gpus_do_not_count_for_jobs(bench: Bench, nvml: NvmlStub) -> None:
    on(bench, TWO_GPUS | IDLE | ON_B, nvml)
    with pytest.raises(RequestError, match=r"here are 1 \(.*GPU-bbbb\) is used by pid 8"):
        bench.run(jobs=2)
    bench.run(jobs=None)
    assert given(bench) == {"GPU-aaaa"}


@pytest.mark.parametrize(
    ("asked", "gpus", "line"),
    [
        ("1", {"GPU-bbbb"}, BUSY_B),
        ("GPU-bbbb", {"GPU-bbbb"}, BUSY_B),
        ("GPU-b, 0", {"GPU-bbbb", "GPU-aaaa"}, f"{BUSY_B}; {BUSY_A}"),
        ("all", {"GPU-bbbb", "GPU-aaaa"}, f"{BUSY_A}; {BUSY_B}"),
    ],
)
def test_one_that_is_asked_for_is_taken_all_the_same(
    bench: Bench, heard: Heard, nvml: NvmlStub, asked: str, gpus: set[str], line: str
) -> None:
    on(bench, TWO_GPUS | ON_A | ON_B, nvml)
    bench.run(len(gpus), request=GpuRequest(asked))
    assert given(bench) == gpus
    assert heard.lines == [f"{line}, and taken all the same: --gpus {asked}"]


def test_rows_of_a_kind_of_gpu_that_was_not_asked_for_do_not_count(
    bench: Bench, nvml: NvmlStub
) -> None:
    on(bench, TWO_GPUS | IDLE, nvml)
    bench.run()
    assert given(bench) == {"GPU-aaaa"}
    bench.run(request=GpuRequest("1"))
    assert given(bench) == {"GPU-bbbb"}


def test_a_gpu_whose_processes_are_not_listed_is_taken_and_that_is_said(
    bench: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    on(bench, TWO_GPUS | {"gpu1.processes": {}}, nvml)
    bench.run()
    assert given(bench) == {"GPU-aaaa"}
    assert heard.lines == [f"{A}: whether somebody computes on it is not known: Not Supported"]


def test_cells_of_a_cpu_ask_after_no_gpu(bench: Bench, heard: Heard, nvml: NvmlStub) -> None:
    text = bench.matrix_file.read_text()
    bench.matrix_file.write_text(text.replace("[cuda]", "[cpu]"))
    on(bench, TWO_GPUS | ON_A | ON_B, nvml)
    bench.run(request=GpuRequest(wait=True))
    assert (heard.lines, len(bench.rows())) == ([], 4)


# --- Lost ones ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [1, error(pynvml.NVML_ERROR_UNKNOWN), error(pynvml.NVML_ERROR_RESET_REQUIRED)]
)
def test_a_gpu_that_is_lost_leaves_the_others_and_keeps_its_number(
    bench: Bench, nvml: NvmlStub, failure: Reading
) -> None:
    on(bench, TWO_GPUS | IDLE | {"gpu0.lost": failure}, nvml)
    assert [gpu.uuid for gpu in bench.gpus.gpus] == ["GPU-bbbb"]
    assert bench.gpus.left_out.startswith("GPU 0: ")
    bench.run(request=GpuRequest("1"))
    assert given(bench) == {"GPU-bbbb"}
    with pytest.raises(RequestError, match=r"GPU 0: .*Here are: 0 GPU 0: .*, 1 Stub GPU B"):
        bench.run(request=GpuRequest("0"))


@pytest.mark.parametrize("shown", [None, "0,1", "1", "GPU-bbbb"])
def test_a_gpu_that_is_lost_is_none_of_those_that_a_variable_shows(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch, shown: str | None
) -> None:
    if shown:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    nvml.write(TWO_GPUS | {"gpu0.lost": 1, "gpu1.name": "Stub GPU A"})
    assert [gpu.uuid for gpu in find_gpus().gpus] == ["GPU-bbbb"]


def test_with_all_lost_the_reason_is_nvmls(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | {"gpu0.lost": 1, "gpu1.lost": 1})
    found = find_gpus()
    assert (found.gpus, found.driver_version) == ((), "580.1")
    assert found.reason == "GPU 0: GPU is lost; GPU 1: GPU is lost"
    assert "nvidia-smi --gpu-reset" in found.remedy


@pytest.mark.parametrize("key", ["mig_mode", "virtualization_mode"])
def test_a_call_that_fails_for_no_known_reason_takes_no_gpu_away(nvml: NvmlStub, key: str) -> None:
    nvml.write(TWO_GPUS | {f"gpu0.{key}": error(pynvml.NVML_ERROR_UNKNOWN)})
    assert len(find_gpus().gpus) == 2


# --- Waiting ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "jobs", "wanted"),
    [("idle", None, 1), ("idle", 1, 1), ("idle", 2, 2), ("0,1", 1, 2), ("all", 1, 2)],
)
def test_it_waits_until_enough_are_idle_and_says_for_whom(
    bench: Bench, heard: Heard, nvml: NvmlStub, asked: str, jobs: int | None, wanted: int
) -> None:
    """Each line that tells who computes ends one of them."""
    on(bench, TWO_GPUS | ON_A | ON_B, nvml)

    def end(line: str) -> None:
        assert bench.launcher.jobs == []
        nvml.change(**({"gpu1.processes": {}} if "GPU-bbbb" in line else {"gpu0.processes": {}}))

    heard.then = end
    bench.run(jobs, request=GpuRequest(asked, wait=True))
    waited = f"waiting for {wanted} idle GPU{'s' if wanted > 1 else ''} of 2: "
    if wanted == 1:
        assert heard.lines == [f"{waited}{BUSY_A}; {BUSY_B}", f"passed over: {BUSY_A}"]
        assert given(bench) == {"GPU-bbbb"}
    else:
        assert heard.lines == [f"{waited}{BUSY_A}; {BUSY_B}", f"{waited}{BUSY_A}"]
        assert given(bench) == ({"GPU-aaaa", "GPU-bbbb"} if jobs == 2 else {"GPU-aaaa"})
    assert [row["status"] for row in bench.rows()] == ["ok"] * 4


def test_one_that_is_named_is_waited_for_though_another_is_idle(
    bench: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    on(bench, TWO_GPUS | IDLE | ON_A, nvml)
    heard.then = lambda line: nvml.change(**IDLE)
    bench.run(request=GpuRequest("0", wait=True))
    assert heard.lines == [f"waiting for 1 idle GPU of 1: {BUSY_A}"]
    assert given(bench) == {"GPU-aaaa"}


def test_what_can_never_be_is_not_waited_for(bench: Bench, heard: Heard, nvml: NvmlStub) -> None:
    on(bench, TWO_GPUS | ON_A | ON_B, nvml)
    with pytest.raises(RequestError, match="as many GPUs; here are 2"):
        bench.run(jobs=3, request=GpuRequest(wait=True))
    assert heard.lines == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait_and_nothing_has_run(
    tiny_matrix: Path, tmp_path: Path, nvml: NvmlStub, number: signal.Signals
) -> None:
    tiny_matrix.write_text(tiny_matrix.read_text().replace("[cpu]", "[cpu, cuda]"))
    nvml.write(TWO_GPUS | ON_A | ON_B)
    arguments = ["run", tiny_matrix, "--out", tmp_path / "out", "--runtime", "local"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments, "--wait-for-gpu"],
        cwd=ROOT,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                if "waiting" in line:
                    running.send_signal(number)
                    break
            rest, _ = running.communicate(timeout=60)
        finally:
            running.kill()
    assert line == f"GPUs: waiting for 1 idle GPU of 2: {BUSY_A}; {BUSY_B}\n"
    assert running.returncode == 130, rest
    assert "0 of 8 runs ok, 8 open" in rest
    assert read_runs(tmp_path / "out" / "runs.csv") == []


# --- Names --------------------------------------------------------------------------------------

HERE = f"Here are: 0 {A}, 1 {B} in MIG mode with Stub GPU B MIG 1g.10gb (MIG-b0), Stub GPU B MIG"


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ("2", "there is no GPU 2"),
        ("0,", "there is no GPU (empty)"),
        ("Idle", "there is no GPU Idle"),
        ("GPU-c,-1", "there is no GPU GPU-c; there is no GPU -1"),
        ("0, GPU-aaaa", f"{A} comes twice"),
        ("MIG-b", "the UUIDs of 2 GPUs begin with MIG-b"),
        ("1", f"{B} is in MIG mode, and a cell gets an instance; name instances: MIG-b0, MIG-b2"),
        ("GPU-bbbb", f"{B} is in MIG mode, and a cell gets an instance; name instances: MIG-b0"),
    ],
)
def test_a_name_that_is_none_is_an_error_that_tells_what_is_there(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch, asked: str, why: str
) -> None:
    nvml.write(WITH_MIG)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(RequestError) as caught:
        GpuRequest(asked).on(this_machine())
    told = str(caught.value)
    assert told.startswith(f"--gpus {asked}: {why}")
    assert HERE in told


def test_numbers_are_the_machines_whatever_a_variable_leaves_of_it(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.write(TWO_GPUS)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-bbbb")
    assert [str(gpu) for gpu in GpuRequest("1").on(this_machine()).gpus.gpus] == [B]
    with pytest.raises(RequestError, match=f"0: CUDA_VISIBLE_DEVICES=GPU-bbbb leaves out {A[:9]}"):
        GpuRequest("0").on(this_machine())


def test_a_name_where_there_is_no_gpu(nvml: NvmlStub) -> None:
    with pytest.raises(RequestError, match="no GPU for it: NVML finds no NVIDIA driver: Driver"):
        GpuRequest("0").on(this_machine())
    assert GpuRequest("all").on(this_machine()).gpus.gpus == ()


@pytest.mark.slow
def test_the_commands_take_names(tiny_matrix: Path, tmp_path: Path, nvml: NvmlStub) -> None:
    tiny_matrix.write_text(tiny_matrix.read_text().replace("[cpu]", "[cuda]"))
    nvml.write(TWO_GPUS | IDLE)
    where = ("--runtime", "local", "--out", tmp_path / "out")
    planned = command("plan", tiny_matrix, *where, "--gpus", "1")
    assert "GPUs     1; --gpus 1\n" in planned.stdout
    for asked in (("run", tiny_matrix), ("plan", tiny_matrix), ("check", tiny_matrix)):
        refused = command(*asked, "--runtime", "local", "--gpus", "5")
        assert (refused.returncode, refused.stderr[:36]) == (
            2,
            "error: --gpus 5: there is no GPU 5. "[:36],
        )


# --- Instances (MIG) ----------------------------------------------------------------------------


def test_cells_get_instances_in_place_of_the_gpu(bench: Bench, nvml: NvmlStub) -> None:
    free = {f"{gpu}.processes": {} for gpu in ("gpu0", "gpu1.mig0", "gpu1.mig2")}
    on(bench, WITH_MIG | free, nvml)
    bench.run(jobs=3)
    assert given(bench) == {"GPU-aaaa", "MIG-b0", "MIG-b2"}
    named = {(row["gpu_uuid"], row["gpu_name"]) for row in bench.rows()}
    assert ("MIG-b2", "Stub GPU B MIG 2g.20gb") in named


def test_an_instance_is_busy_by_its_own_processes(
    bench: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    used: dict[str, Reading] = {"gpu1.mig0.processes": {7: 300}, "gpu1.mig2.processes": {}}
    on(bench, WITH_MIG | used | ON_A | {"gpu1.processes": {7: 300}}, nvml)
    bench.run()
    assert given(bench) == {"MIG-b2"}
    assert heard.lines == [
        f"passed over: {BUSY_A}; Stub GPU B MIG 1g.10gb (MIG-b0) is used by pid 7 (300 MiB)"
    ]


def test_mig_mode_without_an_instance_is_no_gpu(bench: Bench, nvml: NvmlStub) -> None:
    only: dict[str, Reading] = {
        "driver": "580.1",
        "gpu0.uuid": "GPU-aaaa",
        "gpu0.name": "Stub GPU A",
        "gpu0.mig_mode": 1,
    }
    on(bench, only, nvml)
    bench.run()
    (reason,) = {row["reason"] for row in bench.rows()}
    assert reason.startswith(
        f"no GPU here: {A} is in MIG mode and has no instance. Make instances (nvidia-smi mig "
        "-cgi PROFILE -C), or end MIG mode (nvidia-smi -mig 0), or give the matrix device cpu"
    )
    on(bench, TWO_GPUS | IDLE | {"gpu0.mig_mode": 1}, nvml)
    bench.run()
    assert given(bench) == {"GPU-bbbb"}
    assert bench.gpus.left_out == f"{A} is in MIG mode and has no instance"


# --- Several a cell -----------------------------------------------------------------------------

FOUR: dict[str, Reading] = {
    "driver": "580.1",
    **{f"gpu{n}.uuid": f"GPU-{n}" for n in range(4)},
    **{f"gpu{n}.name": "Stub GPU" for n in range(4)},
    **{f"gpu{n}.processes": {} for n in range(4)},
    **{f"gpu{n}.memory_used_mib": 100 for n in range(4)},
    **{f"gpu{n}.memory_total_mib": 16000 for n in range(4)},
}


@pytest.fixture
def pairs(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Cells with two GPUs each."""
    monkeypatch.setattr(RunSpec, "gpus", property(lambda spec: 2 if spec.device == "cuda" else 0))
    return bench


def test_cells_with_two_gpus_share_four(pairs: Bench, nvml: NvmlStub) -> None:
    on(pairs, FOUR, nvml)
    pairs.run(jobs=2)
    assert given(pairs) == {"GPU-0 GPU-1", "GPU-2 GPU-3"}
    assert pairs.launcher.probed == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    rows = pairs.rows()
    assert {row["gpu_uuid"] for row in rows} == {"GPU-0 GPU-1", "GPU-2 GPU-3"}
    assert {(row["gpu_name"], row["driver_version"]) for row in rows} == {("2 x Stub GPU", "580.1")}
    assert {row["gpu_mem_source"] for row in rows} == {"device_delta"}
    pairs.run(jobs=2)
    assert given(pairs) == set()  # all are done


def test_named_ones_are_put_in_nvmls_order(pairs: Bench, nvml: NvmlStub) -> None:
    on(pairs, FOUR, nvml)
    pairs.run(request=GpuRequest("3,0"))
    assert given(pairs) == {"GPU-0 GPU-3"}


def test_rows_of_one_gpu_do_not_count_for_two(bench: Bench, nvml: NvmlStub) -> None:
    on(bench, FOUR, nvml)
    bench.run()
    bench.launcher.jobs = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunSpec, "gpus", property(lambda spec: 2))
        bench.run()
    assert given(bench) == {"GPU-0 GPU-1"}


def test_busy_ones_are_passed_over_and_too_few_left_are_a_reason(
    pairs: Bench, heard: Heard, nvml: NvmlStub
) -> None:
    on(pairs, FOUR | {"gpu1.processes": {7: 300}}, nvml)
    pairs.run()
    assert given(pairs) == {"GPU-0 GPU-2"}
    pairs.folder = ResultsFolder(pairs.folder.path.with_name("others"))
    nvml.change(**{"gpu2.processes": {7: 300}, "gpu3.processes": {7: 300}})
    pairs.run()
    assert given(pairs) == set()
    (reason,) = {row["reason"] for row in pairs.rows()}
    in_use = "Stub GPU (GPU-1), Stub GPU (GPU-2), Stub GPU (GPU-3)"
    assert reason.startswith(
        f"asks for 2 whole GPUs of one kind, and this machine has 1 (in use: {in_use}). "
        "--wait-for-gpu waits, --gpus GPU-1,GPU-2,GPU-3 takes them all the same, lower program.gpus"
    )
    nvml.change(**{"gpu1.processes": {8: 300}})
    pairs.run()
    assert len(pairs.rows()) == 4  # the reason is the same, whoever computes there


def test_waiting_is_for_enough_of_one_kind(pairs: Bench, heard: Heard, nvml: NvmlStub) -> None:
    one_of_each: dict[str, Reading] = {"gpu1.processes": {7: 3}, "gpu3.processes": {7: 3}}
    on(pairs, FOUR | {"gpu2.name": "Another", "gpu3.name": "Another"} | one_of_each, nvml)

    def then(line: str) -> None:
        if line.startswith("waiting for"):
            nvml.change(**{"gpu3.processes": {}})

    heard.then = then
    pairs.run(request=GpuRequest(wait=True))
    assert heard.lines[0].startswith("waiting for 2 idle GPUs of 4: Stub GPU (GPU-1) is used by")
    assert given(pairs) == {"GPU-2 GPU-3"}


def test_one_that_does_not_compute_is_told_by_name(pairs: Bench, nvml: NvmlStub) -> None:
    on(pairs, FOUR, nvml)
    pairs.launcher.dead["GPU-1"] = Reach("RuntimeError: no", "2.13.0", "13.0", "13.0")
    with pytest.raises(MissingError, match=r"cannot compute on Stub GPU \(GPU-1\): .*--gpus GPU-0"):
        pairs.run()
    assert pairs.rows() == []


@pytest.mark.parametrize("failing", [0, 1])
def test_one_lost_of_two_is_a_fault_of_the_cells_gpus(
    pairs: Bench, nvml: NvmlStub, failing: int
) -> None:
    on(pairs, FOUR, nvml)
    launcher = pairs.launcher
    launcher.status, launcher.reason = lambda job: "crashed", "CUDA error"

    def gone(job: Job, stop: Stop) -> None:
        nvml.change(**{f"gpu{failing}.lost": 1})
        launcher.dead[f"GPU-{failing}"] = Reach("no CUDA", "2.13.0", "13.0", "13.0")

    launcher.during = gone
    with pytest.raises(
        GpuError, match=rf"Stub GPU \(GPU-{failing}\) failed, and cells can no long"
    ):
        pairs.run()
    (row,) = pairs.rows()
    assert row["status"] == "interrupted"
    assert f"NVML lost it while the cell ran: GPU-{failing} GPU is lost" in row["reason"]
