"""A GPU that fails is the machine's fault: the cell stays open, on evidence that no class can give.

The launcher is a fake whose cells fail; the evidence is read by the real watch over the NVML stub.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.errors import GpuError
from bench.launch.job import Job, Stop
from bench.launch.reach import Reach
from bench.measure.gpu_reader import NOTHING, GpuSample
from bench.measure.gpus import Gpu, Gpus
from bench.measure.watch import GpuReading, Readings
from bench.records.endings import LOG_TAIL
from bench.records.folder import ResultsFolder
from bench.run.gpu_fault import with_gpu_fault
from tests.builders.fake_launcher import Bench, FakeLauncher
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub, error

pytest_plugins = "tests.builders.nvml_stub"

FINE = {"gpu0.memory_used_mib": 100, "gpu0.memory_total_mib": 16000, "gpu0.xids": ""}
FAILURES = [
    {"gpu0.xids": "79"},
    {"gpu0.lost": 1},
    {"gpu0.lost": error(pynvml.NVML_ERROR_UNKNOWN)},
]
NO_GPU_SAID = "RuntimeError: the cell asks for cuda, and torch finds no usable GPU. See ..."


# --- What is evidence -----------------------------------------------------------------------------


def seen(xids: tuple[int, ...] = (), **fields: Any) -> Readings:
    sample = GpuSample(**{**vars(NOTHING), "xids": xids})
    reading = (1.0, GpuReading(sample, frozenset()))
    return Readings(**{"every_s": 0.1, "n_cpus": 1, "on_gpu": True, "gpu": [reading]} | fields)


def judged(row: dict[str, Any], readings: Readings) -> dict[str, Any]:
    return with_gpu_fault({"reason": "RuntimeError: CUDA error"} | row, readings)


@pytest.mark.parametrize("status", ["crashed", "timeout"])
@pytest.mark.parametrize("xid", [48, 74, 79, 94, 95, 119, 120, 140])
def test_an_xid_of_the_hardware_makes_it_the_machines(status: str, xid: int) -> None:
    found = judged({"status": status}, seen(xids=(31, xid)))
    assert found["status"] == "interrupted"
    assert f"Xid {xid} (" in found["reason"]
    assert "Xid 31" not in found["reason"]
    assert f"the cell: {status}: RuntimeError: CUDA error" in found["reason"]


@pytest.mark.parametrize("xid", [13, 31, 43, 45, 63, 68, 69, 92, 109])
def test_an_xid_of_a_program_changes_nothing(xid: int) -> None:
    assert judged({"status": "crashed"}, seen(xids=(xid,), opened_device=True)) == {}


@pytest.mark.parametrize("status", ["ok", "diverged", "oom", "oom_killed", "interrupted"])
def test_other_ends_stay_what_they_are(status: str) -> None:
    assert judged({"status": status}, seen(xids=(79,), lost="GPU is lost")) == {}


def test_nvml_that_lost_the_gpu_is_evidence() -> None:
    found = judged({"status": "crashed"}, seen(lost="GPU is lost (at 3 s)", opened_device=True))
    assert "NVML lost it while the cell ran: GPU is lost (at 3 s)" in found["reason"]


@pytest.mark.parametrize(
    ("reason", "opened", "is_fault"),
    [
        (NO_GPU_SAID, False, True),
        ("RuntimeError: No CUDA GPUs are available", False, True),
        ("RuntimeError: CUDA error: no CUDA-capable device is detected", False, True),
        # A class has spoken by then, and may say anything.
        (NO_GPU_SAID, True, False),
        ("RuntimeError: the GPU failed: GPU is lost", True, False),
        ("RuntimeError: cannot import", False, False),
        (f"exit code 1; it left no result{LOG_TAIL}{NO_GPU_SAID}", False, False),
    ],
)
def test_what_a_worker_says_counts_until_a_class_may_speak(
    reason: str, opened: bool, is_fault: bool
) -> None:
    found = judged({"status": "crashed", "reason": reason}, seen(opened_device=opened))
    assert bool(found) == is_fault


def test_a_cell_on_the_cpu_has_no_gpu_that_could_fail() -> None:
    readings = seen(on_gpu=False)
    assert judged({"status": "crashed", "reason": NO_GPU_SAID}, readings) == {}


# --- What becomes of the cells --------------------------------------------------------------------


@pytest.fixture
def one_gpu(tiny_matrix: Path, tmp_path: Path, nvml: NvmlStub) -> Bench:
    """Four cells for a GPU, each tried once more after a fault of the machine."""
    text = tiny_matrix.read_text().replace("device: [cpu]", "device: [cuda]")
    tiny_matrix.write_text(f"{text}limits: {{retries: 1}}\n")
    nvml.write(TWO_GPUS | FINE)
    gpus = Gpus((Gpu("GPU-aaaa", "Stub GPU A"),), "580.1", None)
    return Bench(tiny_matrix, ResultsFolder(tmp_path / "results"), FakeLauncher(), gpus)


def failing(nvml: NvmlStub, failure: dict[str, Any], times: int) -> Callable[[Job, Stop], None]:
    """So many attempts at the first cells see their GPU fail; it is well again before the next."""
    left = [times]

    def during(job: Job, stop: Stop) -> None:
        if left[0]:
            left[0] -= 1
            nvml.change(**failure)

    return during


def crash_if_failed(one_gpu: Bench, nvml: NvmlStub, failure: dict[str, Any], times: int) -> None:
    launcher = one_gpu.launcher
    launcher.during = failing(nvml, failure, times)
    attempts = iter(range(99))
    launcher.status = lambda job: "crashed" if next(attempts) < times else "ok"
    launcher.reason = "AcceleratorError: CUDA error: unspecified launch failure"
    reach = launcher.reach

    def well_again(gpu_uuid: str) -> Reach:
        nvml.change(**FINE, **{"gpu0.lost": None})
        return reach(gpu_uuid)

    launcher.reach = well_again  # type: ignore[method-assign]


@pytest.mark.parametrize("failure", FAILURES, ids=["Xid", "lost", "unknown"])
def test_a_cell_whose_gpu_failed_runs_once_more(
    one_gpu: Bench, nvml: NvmlStub, failure: dict[str, Any]
) -> None:
    crash_if_failed(one_gpu, nvml, failure, times=1)
    one_gpu.run()
    first, *others = one_gpu.rows()
    assert first["status"] == "interrupted"
    assert first["reason"].startswith("the GPU failed: ")
    assert "unspecified launch failure" in first["reason"]
    assert [row["status"] for row in others] == ["ok"] * 4
    assert others[0]["run_id"] == first["run_id"]
    assert len(one_gpu.launcher.probed) == 2  # before the first cell, and after the fault


def test_it_stays_open_when_no_retry_is_left(one_gpu: Bench, nvml: NvmlStub) -> None:
    crash_if_failed(one_gpu, nvml, {"gpu0.xids": "79"}, times=2)
    one_gpu.run()
    rows = one_gpu.rows()
    assert [row["status"] for row in rows] == ["interrupted"] * 2 + ["ok"] * 3
    assert [row["gpu_xids"] for row in rows] == ["79", "79", "none", "none", "none"]
    one_gpu.run()
    assert [row["status"] for row in one_gpu.rows()[5:]] == ["ok"]
    assert one_gpu.rows()[5]["run_id"] == rows[0]["run_id"]


def test_a_gpu_that_is_gone_for_good_takes_no_further_cell(one_gpu: Bench, nvml: NvmlStub) -> None:
    launcher = one_gpu.launcher
    launcher.status = lambda job: "crashed"

    def gone(job: Job, stop: Stop) -> None:
        nvml.change(**{"gpu0.lost": 1})
        launcher.found = Reach("RuntimeError: No CUDA GPUs are available", "2.13.0", "13.0", "13.0")

    launcher.during = gone
    with pytest.raises(GpuError, match=r"Stub GPU A \(GPU-aaaa\) failed.*No CUDA GPUs are"):
        one_gpu.run()
    assert [row["status"] for row in one_gpu.rows()] == ["interrupted"]


def test_a_class_that_says_so_is_not_believed(one_gpu: Bench) -> None:
    launcher = one_gpu.launcher
    launcher.status = lambda job: "crashed"
    launcher.reason = f"RuntimeError: the GPU failed: Xid 79; {NO_GPU_SAID}"
    one_gpu.run()
    assert [row["status"] for row in one_gpu.rows()] == ["crashed"] * 4
