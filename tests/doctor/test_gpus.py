"""The doctor on GPUs: hardware, driver, the engine's way to them, who uses them."""

import json
from collections.abc import Callable
from pathlib import Path

import pynvml
import pytest

from bench.border.surroundings import PROBE_ANSWER
from bench.doctor import cells, gpu, gpu_settings
from bench.doctor.finding import CPU, GPU, missing
from bench.errors import EngineError
from bench.launch import container
from bench.launch.container import ContainerLauncher
from bench.launch.engine import Engine
from bench.launch.local import LocalLauncher
from bench.measure.gpus import Gpus
from bench.measure.listed import find_gpus
from tests.builders.doctor import NO_GPU, examined, made_up
from tests.builders.nvml_stub import TWO_GPUS, WITH_MIG, NvmlStub, Reading, error
from tests.builders.shared import bench
from tests.builders.two_gpus import OURS

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


def test_instances_are_named_with_what_nvml_does_not_tell_of_them(nvml: NvmlStub) -> None:
    told: dict[str, Reading] = {
        "gpu1.mig0.processes": {},
        "gpu1.mig0.memory_used_mib": 1,
        "gpu1.mig0.memory_total_mib": 2,
        "gpu1.energy_w": 5,  # of the whole GPU
        "gpu1.utilisation_pct": 5,
    }
    nvml.write(WITH_MIG | told)
    answer = gpu.gpu(find_gpus())
    assert answer.state == "ok"
    found, first, second = answer.text.split("; NVML does not tell its ")
    assert found.startswith("Stub GPU A (GPU-aaaa), Stub GPU B MIG 1g.10gb (MIG-b0), Stub GPU B M")
    assert found.endswith("; MIG-b0 is an instance of Stub GPU B (GPU-bbbb) (MIG)")
    first, _, after = first.partition("; ")
    assert after == "MIG-b2 is an instance of Stub GPU B (GPU-bbbb) (MIG)"
    assert {"energy", "utilisation", "sm clock", "power default"} <= set(first.split(", "))
    assert "memory" not in first.split(", ")
    assert {"memory", "processes", "energy"} <= set(second.split(", "))


def test_a_gpu_that_is_virtual_is_told_with_what_nvml_does_not_tell_of_it(nvml: NvmlStub) -> None:
    told = {key: value for key, value in OURS.items() if not key.endswith(("energy_w", "_c"))}
    mode = pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    passed_through = pynvml.NVML_GPU_VIRTUALIZATION_MODE_PASSTHROUGH
    modes = {"gpu0.virtualization_mode": passed_through, "gpu1.virtualization_mode": mode}
    nvml.write(TWO_GPUS | told | modes)
    assert gpu.gpu(find_gpus()).text == (
        "Stub GPU A (GPU-aaaa), Stub GPU B (GPU-bbbb); GPU-bbbb is a vGPU; NVML does not tell its "
        "energy, temperature"
    )


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
    assert "`run` passes over a GPU in use" in answer.text
    assert "--wait-for-gpu" in (answer.remedy or "")
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


def test_gpus_that_are_all_lost_are_a_problem_of_bench_gpu_alone(
    nvml: NvmlStub, tmp_path: Path
) -> None:
    nvml.write(TWO_GPUS | {"gpu0.lost": 1, "gpu1.lost": 1})
    found = list(examined(tmp_path).values())
    assert missing(found, CPU) == []
    assert any(lack.startswith("GPU (reset the GPU") for lack in missing(found, GPU))


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
    assert "Stub GPU A (GPU-aaaa): torch " in found.text


@pytest.mark.parametrize(
    ("told", "state", "words"),
    [
        ({"built_for": "13.0"}, "ok", "torch 2.13.0 computes on Stub GPU A, Stub GPU B"),
        ({"error": "not compiled with CUDA"}, "problem", "was built without CUDA"),
        (
            {"built_for": "13.0", "driver_cuda": "12.4", "error": "too old"},
            "problem",
            "built for CUDA 13.0, and the driver 580.1 supports up to CUDA 12.4",
        ),
    ],
)
def test_the_workers_own_torch_is_asked(
    told: dict[str, str],
    state: str,
    words: str,
    program: Callable[[str, str], None],
    no_engine: Path,
    nvml: NvmlStub,
) -> None:
    nvml.write(TWO_GPUS)
    answer = {"torch": "2.13.0", "built_for": None, "driver_cuda": None, "error": None} | told
    program("python", f"a library prints\n{PROBE_ANSWER}{json.dumps(answer)}\nand again")
    found = cells.cuda(LocalLauncher(str(no_engine / "python")), find_gpus())
    assert found.state == state
    assert words in found.text


def test_an_interpreter_that_gives_no_answer_is_a_problem(
    program: Callable[[str, str], None], no_engine: Path, nvml: NvmlStub
) -> None:
    nvml.write(TWO_GPUS)
    program("python", "nothing of the kind")
    for python in (str(no_engine / "python"), "/nonexistent"):
        assert cells.cuda(LocalLauncher(python), find_gpus()).state == "problem"


def test_an_engine_that_brings_no_gpu_in_is_told_by_its_own_words(
    nvml: NvmlStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    nvml.write(TWO_GPUS)

    def refuse(self: Engine, *arguments: str, timeout_s: float = 0) -> str:
        raise EngineError("docker run failed: could not select device driver with [[gpu]]")

    monkeypatch.setattr(container, "_image_id", lambda launcher, device: "sha256:123")
    monkeypatch.setattr(ContainerLauncher, "_gpu", lambda launcher, gpu_uuid: ["--gpus", "all"])
    monkeypatch.setattr(Engine, "command", refuse)
    answer = cells.cuda(ContainerLauncher(Engine("docker")), find_gpus())
    assert answer.state == "problem"
    assert "could not select device driver" in answer.text
    assert "container toolkit" in (answer.remedy or "")


@pytest.mark.parametrize(
    ("limits_w", "state", "words"),
    [
        ((700, 700), "ok", "700 W on Stub GPU A (GPU-aaaa)"),
        ((750, 700), "ok", "750 W on Stub GPU A"),
        ((500, 700), "warning", "500 W on Stub GPU A (GPU-aaaa), whose default is 700 W"),
        ((None, 700), "unknown", "NVML does not tell it of Stub GPU A"),
        ((700, None), "unknown", "NVML does not tell it of Stub GPU A"),
    ],
)
def test_a_power_limit_below_the_default_is_a_warning(
    nvml: NvmlStub, limits_w: tuple[int | None, int | None], state: str, words: str
) -> None:
    both = {"gpu1.power_limit_w": 300, "gpu1.power_default_limit_w": 300}
    limit, default = limits_w
    ours = {"gpu0.power_limit_w": limit, "gpu0.power_default_limit_w": default}
    nvml.write(TWO_GPUS | both | ours)
    answer = gpu_settings.power_limit(find_gpus())
    assert answer.state == state
    assert words in answer.text
    remedy = "sudo nvidia-smi -i GPU-aaaa -pl 700" if state == "warning" else None
    assert answer.remedy == remedy
    assert gpu_settings.power_limit(NO_GPU).state == "ok"


@pytest.mark.parametrize(
    ("clocks_mhz", "state", "words"),
    [
        ((1410, 1410), "ok", "application clocks are set on Stub GPU A"),
        ((1410, 1980), "unknown", "set on Stub GPU A (GPU-aaaa) alone; NVML does not tell"),
        ((1980, 1980), "unknown", "none are set; NVML does not tell whether nvidia-smi -lgc"),
        ((None, None), "unknown", "none are set; NVML does not tell whether nvidia-smi -lgc"),
    ],
)
def test_whether_clocks_are_held_as_far_as_nvml_tells(
    nvml: NvmlStub, clocks_mhz: tuple[int | None, int | None], state: str, words: str
) -> None:
    shown = {f"gpu{index}.app_clock_mhz": mhz for index, mhz in enumerate(clocks_mhz)}
    shown |= {f"gpu{index}.app_clock_default_mhz": 1980 for index in range(2)}
    nvml.write(TWO_GPUS | shown)
    answer = gpu_settings.clocks(find_gpus())
    assert answer.state == state
    assert words in answer.text
    assert ("-lgc MHZ" in (answer.remedy or "")) == (state == "unknown")


def test_the_doctor_tells_both(nvml: NvmlStub, tmp_path: Path) -> None:
    nvml.write(TWO_GPUS | {"gpu0.power_limit_w": 500, "gpu0.power_default_limit_w": 700})
    found = examined(tmp_path)
    states = [found[name].state for name in ("GPU power limit", "GPU clocks")]
    assert states == ["warning", "unknown"]
