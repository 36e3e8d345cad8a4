"""The doctor on GPUs: hardware, driver, the engine's way to them, who uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from bench.doctor import cells, gpu
from bench.doctor.finding import CPU, GPU, missing
from bench.launch.engine import Engine
from bench.launch.local import LocalLauncher
from bench.measure.nvml import Gpus, find_gpus
from tests.builders.doctor import NO_GPU, examined, made_up
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub, error
from tests.builders.shared import bench

pytest_plugins = "tests.builders.nvml_stub"


def test_hardware_without_a_driver_is_told_from_no_hardware(tmp_path: Path) -> None:
    assert gpu.gpu(NO_GPU, tmp_path).state == "problem"
    bridge = {"0/vendor": "0x10de", "0/class": "0x060400"}  # of NVIDIA, but no GPU
    other = {"1/vendor": "0x8086", "1/class": "0x030000"}
    assert gpu.gpu(NO_GPU, made_up(tmp_path, bridge | other)).state == "problem"
    made_up(tmp_path, {"2/vendor": "0x10de", "2/class": "0x030200"})
    without_driver = gpu.gpu(NO_GPU, tmp_path)
    assert without_driver.state == "unknown"
    assert without_driver.text.startswith("1 from NVIDIA on the PCI bus")
    assert gpu.gpu(Gpus((), "580.1", "the NVIDIA driver lists no GPU"), tmp_path).state == "problem"


def test_gpus_and_driver_are_named(nvml: NvmlStub, tmp_path: Path) -> None:
    nvml.write(TWO_GPUS | {"gpu0.processes": {}, "gpu1.processes": {}})
    found = examined(tmp_path)
    assert "580.1" in found["NVML"].text
    assert "Stub GPU A (GPU-aaaa), Stub GPU B (GPU-bbbb)" in found["GPU"].text
    states = {found[name].state for name in ("NVML", "GPU", "GPU processes")}
    assert states == {"ok"}


def test_the_command_sees_the_gpus_as_well(nvml: NvmlStub, tmp_path: Path) -> None:
    nvml.write(TWO_GPUS | {"gpu0.processes": {}, "gpu1.processes": {4242: 480}})
    answer = bench("doctor", "--runtime", "local", "--out", tmp_path)
    assert answer.returncode == 0, answer.stderr
    assert "driver 580.1" in answer.stdout
    assert "pid 4242 (480 MiB) on GPU-bbbb" in answer.stdout


def test_foreign_processes_are_a_warning_with_their_memory(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | {"gpu0.processes": {7: 1500, 8: None}, "gpu1.processes": None})
    answer = gpu.processes(find_gpus())
    assert answer.state == "warning"
    assert "pid 7 (1500 MiB) on GPU-aaaa, pid 8 (memory not told) on GPU-aaaa" in answer.text
    assert "does not list those on GPU-bbbb: Not Supported" in answer.text


@pytest.mark.parametrize(
    ("processes", "why"), [(None, "Not Supported"), (error(pynvml.NVML_ERROR_GPU_IS_LOST), "lost")]
)
def test_processes_that_nvml_does_not_list_are_unknown(
    processes: str | None, why: str, nvml: NvmlStub
) -> None:
    nvml.write(TWO_GPUS | {"gpu0.processes": {}, "gpu1.processes": processes})
    answer = gpu.processes(find_gpus())
    assert answer.state == "unknown"
    assert "GPU-bbbb: " in answer.text
    assert why in answer.text


def test_a_driver_that_breaks_off_is_a_problem_of_bench_gpu_alone(
    nvml: NvmlStub, tmp_path: Path
) -> None:
    nvml.write(TWO_GPUS | {"gpu0.lost": 1})
    found = list(examined(tmp_path).values())
    assert missing(found, CPU) == []
    assert any(lack.startswith("NVML (") for lack in missing(found, GPU))


def discovered(*ids: str) -> dict[str, object]:
    return {
        "Runtimes": {"runc": {}},
        "DiscoveredDevices": [{"Source": "cdi", "ID": i} for i in ids],
    }


@pytest.mark.parametrize(
    ("info", "state", "text"),
    [
        ({"Runtimes": {"runc": {}}}, "problem", "docker has no way to a GPU"),
        ({"Runtimes": {"runc": {}, "nvidia": {}}}, "ok", "--gpus device=GPU-aaaa"),
        (discovered("nvidia.com/gpu=0", "nvidia.com/gpu=1"), "ok", "--device nvidia.com/gpu=1"),
        (discovered("nvidia.com/gpu=0"), "problem", "no name for the GPU GPU-bbbb"),
        (discovered("other.com/nic=0"), "problem", "docker has no way to a GPU"),
    ],
)
def test_dockers_way_to_a_gpu(
    info: object, state: str, text: str, program: Callable[[str, str], None], nvml: NvmlStub
) -> None:
    nvml.write(TWO_GPUS)
    program("docker", json.dumps(info))
    answer = gpu.toolkit(find_gpus(), Engine("docker"))
    assert answer.state == state
    assert text in answer.text
    assert (answer.state == "ok") == (answer.remedy is None)
    assert gpu.toolkit(NO_GPU, Engine("docker")).state == "ok"
    program("nvidia-container-runtime-hook", "")
    assert gpu.toolkit(find_gpus(), Engine("docker")).state == "ok"


def test_podmans_way_to_a_gpu(tmp_path: Path, nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS)
    folders = (tmp_path / "etc", tmp_path / "run")
    made_up(tmp_path, {"etc/nic.yaml": "kind: other.com/nic"})
    lacking = gpu.toolkit(find_gpus(), Engine("podman"), folders)
    assert lacking.state == "problem"
    assert "nvidia-ctk cdi generate" in (lacking.remedy or "")
    spec = {"kind": "nvidia.com/gpu", "devices": [{"name": "GPU-aaaa"}, {"name": "GPU-bbbb"}]}
    made_up(tmp_path, {"run/nvidia.json": json.dumps(spec)})
    found = gpu.toolkit(find_gpus(), Engine("podman"), folders)
    assert found.state == "ok"
    assert "nvidia.com/gpu=GPU-aaaa, --device nvidia.com/gpu=GPU-bbbb" in found.text


def test_a_torch_that_reaches_no_gpu_is_a_problem_of_bench_gpu_alone(
    nvml: NvmlStub, tmp_path: Path
) -> None:
    nvml.write(TWO_GPUS)  # torch is asked for these, also on a machine that has a real one
    found = examined(tmp_path)["torch with CUDA"]
    assert (found.state, found.concerns) == ("problem", (GPU,))
    assert "reaches no GPU" in found.text


@pytest.mark.parametrize(
    ("printed", "state"), [("2.13.0+cu130 True", "ok"), ("2.13.0+cpu False", "problem")]
)
def test_the_workers_own_torch_is_asked(
    printed: str, state: str, program: Callable[[str, str], None], no_engine: Path
) -> None:
    program("python", printed)
    assert cells.cuda(LocalLauncher(str(no_engine / "python")), NO_GPU).state == state
    assert cells.cuda(LocalLauncher("/nonexistent"), NO_GPU).state == "problem"
