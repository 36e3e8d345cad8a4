"""A GPU that fails is the machine's fault: the cell stays open, on evidence that no class can give.

The launcher is a fake whose cells fail; the evidence is read by the real watch over the NVML stub.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.border.options import Limits
from bench.errors import GpuError
from bench.launch.job import Exit, Job, Stop
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

EXITED = 1000.0  # when the cell ended
FINE = {"gpu0.memory_used_mib": 100, "gpu0.memory_total_mib": 16000, "gpu0.xids": ""}
FAILURES = [
    {"gpu0.xids": "79"},
    {"gpu0.lost": 1},
    {"gpu0.lost": error(pynvml.NVML_ERROR_UNKNOWN)},
]
NO_GPU_SAID = "RuntimeError: the cell asks for cuda, and torch finds no usable GPU. See ..."


# --- What is evidence -----------------------------------------------------------------------------


def seen(xids: tuple[int, ...] = (), at: float = EXITED, **fields: Any) -> Readings:
    sample = GpuSample(**{**vars(NOTHING), "xids": xids})
    reading = (at, GpuReading((sample,), frozenset()))
    return Readings(**{"every_s": 0.1, "n_cpus": 1, "on_gpu": True, "gpu": [reading]} | fields)


def judged(row: dict[str, Any], readings: Readings) -> dict[str, Any]:
    ended = Exit("itself", 1, launched=0.0, exited=EXITED)
    row = {"reason": "RuntimeError: CUDA error"} | row
    return with_gpu_fault(row, readings, ended, Limits(heartbeat_s=100))


CRASHED = {"status": "crashed"}
HUNG = {"status": "timeout", "reason": "it hung: nothing heard for limits.heartbeat_s = 100 s"}
SLOW = {"status": "timeout", "reason": "stopped after limits.timeout_s = 900 seconds"}


@pytest.mark.parametrize("row", [CRASHED, HUNG])
@pytest.mark.parametrize("xid", [48, 62, 79, 95, 119, 120, 140, 143, 156, 158])
def test_an_xid_of_the_hardware_makes_it_the_machines(row: dict[str, Any], xid: int) -> None:
    found = judged(row, seen(xids=(31, xid)))
    assert found["status"] == "interrupted"
    assert f"Xid {xid} (" in found["reason"]
    assert "Xid 31" not in found["reason"]
    said = row.get("reason", "RuntimeError: CUDA error")
    assert f"the cell: {row['status']}: {said}" in found["reason"]


PROGRAMS = [13, 31, 43, 45, 63, 68, 69, 92, 109, 110, 154]
NVLINK = [74, 136, *range(144, 151)]


@pytest.mark.parametrize("xid", [*PROGRAMS, *NVLINK, 64])
def test_an_xid_of_a_program_or_of_what_one_gpu_does_not_use_changes_nothing(xid: int) -> None:
    assert judged(CRASHED, seen(xids=(xid,), opened_device=True)) == {}


@pytest.mark.parametrize(
    ("row", "before_end_s", "is_fault"),
    [
        (CRASHED, 3, True),
        (CRASHED, 11, False),
        (HUNG, 105, True),
        (HUNG, 121, False),
    ],
)
def test_an_xid_long_before_the_end_did_not_bring_it_about(
    row: dict[str, Any], before_end_s: float, is_fault: bool
) -> None:
    assert bool(judged(row, seen(xids=(79,), at=EXITED - before_end_s))) == is_fault


@pytest.mark.parametrize(
    ("reason", "is_fault"),
    [
        ("AcceleratorError: CUDA error: uncorrectable ECC error encountered", True),
        ("IndexError: list index out of range", False),
        (f"exit code 1; it left no result{LOG_TAIL}uncorrectable ECC error", False),
    ],
)
def test_an_error_that_ends_one_program_is_that_of_the_one_that_was_told(
    reason: str, is_fault: bool
) -> None:
    found = judged(CRASHED | {"reason": reason}, seen(xids=(94,), opened_device=True))
    assert bool(found) == is_fault


@pytest.mark.parametrize(
    "row",
    [*({"status": each} for each in ("ok", "diverged", "oom", "oom_killed", "interrupted")), SLOW],
)
def test_other_ends_stay_what_they_are(row: dict[str, Any]) -> None:
    assert judged(row, seen(xids=(79,), lost="GPU is lost")) == {}


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

    def well_again(gpu_uuid: str, folder: Path | None = None) -> Reach:
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
