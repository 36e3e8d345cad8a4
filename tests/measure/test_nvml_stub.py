"""The NVML stub speaks like NVML, through the real pynvml."""

import ctypes
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from bench.measure.gpus import Gpu
from bench.measure.listed import find_gpus
from tests.builders.nvml_stub import (
    TWO_GPUS,
    WITH_MIG,
    NvmlStub,
    Reading,
    error,
    scripted_nvml,
)
from tests.builders.shared import ROOT
from tests.builders.two_gpus import OURS

pytest_plugins = "tests.builders.nvml_stub"

MIB = 2**20


def instant_power_mw(handle: Any) -> Any:
    """As NVML has it: the call succeeds, and each field brings its own code."""
    unknown, power = pynvml.nvmlDeviceGetFieldValues(
        handle, [pynvml.NVML_FI_DEV_ECC_CURRENT, pynvml.NVML_FI_DEV_POWER_INSTANT]
    )
    assert unknown.nvmlReturn == pynvml.NVML_ERROR_NOT_SUPPORTED
    if power.nvmlReturn != pynvml.NVML_SUCCESS:
        raise pynvml.NVMLError(power.nvmlReturn)
    assert power.valueType == pynvml.NVML_VALUE_TYPE_UNSIGNED_INT
    return power.value.uiVal


def memory_bytes(handle: Any) -> tuple[int, int, int]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return memory.total, memory.used, memory.free


def processes(handle: Any) -> list[tuple[int, int | None]]:
    return [
        (process.pid, process.usedGpuMemory)
        for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
    ]


# Every call of one GPU that may be unsupported: the key that scripts it, the call, its result.
CALLS: list[tuple[str, Callable[[Any], Any], Any]] = [
    ("memory_used_mib", memory_bytes, (16000 * MIB, int(1000.5 * MIB), int(14999.5 * MIB))),
    ("processes", processes, [(4242, 300 * MIB), (77, None)]),
    ("power_w", pynvml.nvmlDeviceGetPowerUsage, 250_250),
    ("power_instant_w", instant_power_mw, 260_500),
    ("power_limit_w", pynvml.nvmlDeviceGetEnforcedPowerLimit, 650_000),
    ("power_default_limit_w", pynvml.nvmlDeviceGetPowerManagementDefaultLimit, 700_000),
    ("utilisation_pct", lambda handle: pynvml.nvmlDeviceGetUtilizationRates(handle).gpu, 87),
    ("sm_clock_mhz", lambda gpu: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM), 1980),
    (
        "temperature_c",
        lambda gpu: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
        61,
    ),
    ("event_reasons", pynvml.nvmlDeviceGetCurrentClocksEventReasons, 0x44),
    ("event_reasons", pynvml.nvmlDeviceGetCurrentClocksThrottleReasons, 0x44),
]
NAMES = [f"{key}-{index}" for index, (key, _, _) in enumerate(CALLS)]


@pytest.fixture
def gpu(nvml: NvmlStub) -> Any:
    """The second of two GPUs, with all readings."""
    nvml.write(TWO_GPUS | OURS)
    pynvml.nvmlInit()
    return pynvml.nvmlDeviceGetHandleByUUID("GPU-bbbb")


def test_without_a_script_there_is_no_driver(nvml: NvmlStub) -> None:
    with pytest.raises(pynvml.NVMLError_DriverNotLoaded):
        pynvml.nvmlInit()
    assert find_gpus().reason == "NVML finds no NVIDIA driver: Driver Not Loaded"


def test_lists_two_gpus(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS)
    found = find_gpus()
    assert found.gpus == (Gpu("GPU-aaaa", "Stub GPU A"), Gpu("GPU-bbbb", "Stub GPU B"))
    assert (found.driver_version, found.reason) == ("580.1", None)


def test_lists_instances_in_place_of_their_gpu(nvml: NvmlStub) -> None:
    nvml.write(WITH_MIG)
    found = find_gpus()
    instances = Gpu("MIG-b0", "Stub GPU B MIG 1g.10gb"), Gpu("MIG-b2", "Stub GPU B MIG 2g.20gb")
    assert found.gpus == (Gpu("GPU-aaaa", "Stub GPU A"), *instances)
    assert (found.left_out, found.reason) == ("", None)
    assert [whole.parts for whole in found.every] == [found.gpus[:1], instances]


def test_an_instance_is_a_device_of_its_own(nvml: NvmlStub) -> None:
    readings: dict[str, Reading] = {"gpu1.mig2.memory_used_mib": 5, "gpu1.mig2.memory_total_mib": 7}
    nvml.write(WITH_MIG | OURS | readings)
    pynvml.nvmlInit()
    parent = pynvml.nvmlDeviceGetHandleByUUID("GPU-bbbb")
    assert pynvml.nvmlDeviceGetMigMode(parent) == [1, 1]
    instance = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 2)
    for handle in (instance, pynvml.nvmlDeviceGetHandleByUUID("MIG-b2")):
        assert pynvml.nvmlDeviceGetUUID(handle) == "MIG-b2"
        assert memory_bytes(handle) == (7 * MIB, 5 * MIB, 2 * MIB)
        with pytest.raises(pynvml.NVMLError_NotSupported):
            pynvml.nvmlDeviceGetPowerUsage(handle)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetMigDeviceHandleByIndex(parent, 1)
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetMigMode(pynvml.nvmlDeviceGetHandleByIndex(0))


def test_a_driver_of_another_version(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | {"init": error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)})
    with pytest.raises(pynvml.NVMLError_LibRmVersionMismatch, match="version mismatch"):
        pynvml.nvmlInit()


def test_handles(gpu: Any) -> None:
    assert pynvml.nvmlDeviceGetCount() == 2
    assert pynvml.nvmlDeviceGetIndex(gpu) == 1
    assert pynvml.nvmlDeviceGetUUID(pynvml.nvmlDeviceGetHandleByIndex(0)) == "GPU-aaaa"
    with pytest.raises(pynvml.NVMLError_InvalidArgument):
        pynvml.nvmlDeviceGetHandleByIndex(2)
    with pytest.raises(pynvml.NVMLError_NotFound):
        pynvml.nvmlDeviceGetHandleByUUID("GPU-cccc")


@pytest.mark.parametrize(("key", "call", "result"), CALLS, ids=NAMES)
def test_a_reading_comes_in_nvmls_unit_or_fails(
    nvml: NvmlStub, gpu: Any, key: str, call: Callable[[Any], Any], result: Any
) -> None:
    assert call(gpu) == result
    nvml.change(**{f"gpu1.{key}": None})
    with pytest.raises(pynvml.NVMLError_NotSupported):
        call(gpu)
    nvml.change(**{f"gpu1.{key}": error(pynvml.NVML_ERROR_NO_PERMISSION)})
    with pytest.raises(pynvml.NVMLError_NoPermission):
        call(gpu)
    nvml.change(**{f"gpu1.{key}": OURS[f"gpu1.{key}"], "gpu1.lost": 1})
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        call(gpu)
    nvml.change(**{"gpu1.lost": None})
    assert call(gpu) == result


def test_the_energy_counter_is_power_times_the_monotonic_clock(nvml: NvmlStub, gpu: Any) -> None:
    before = time.monotonic()
    energy_mj = pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)
    after = time.monotonic()
    assert 250_000 * before - 1 <= energy_mj <= 250_000 * after
    nvml.change(**{"gpu1.energy_w": None})
    with pytest.raises(pynvml.NVMLError_NotSupported):
        pynvml.nvmlDeviceGetTotalEnergyConsumption(gpu)


def test_no_process_is_not_the_same_as_an_unsupported_list(nvml: NvmlStub, gpu: Any) -> None:
    nvml.change(**{"gpu1.processes": {}})
    assert processes(gpu) == []


def test_a_lost_gpu_leaves_the_other(nvml: NvmlStub, gpu: Any) -> None:
    nvml.change(**{"gpu1.lost": 1})
    for call in (pynvml.nvmlDeviceGetName, pynvml.nvmlDeviceGetUUID, pynvml.nvmlDeviceGetIndex):
        with pytest.raises(pynvml.NVMLError_GpuIsLost):
            call(gpu)
    with pytest.raises(pynvml.NVMLError_GpuIsLost):
        pynvml.nvmlDeviceGetHandleByUUID("GPU-bbbb")
    nvml.change(**{"gpu1.lost": error(pynvml.NVML_ERROR_RESET_REQUIRED)})
    with pytest.raises(pynvml.NVMLError_ResetRequired):
        pynvml.nvmlDeviceGetPowerUsage(gpu)
    assert pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0)) == "Stub GPU A"


def test_an_older_driver_knows_the_older_name_alone(nvml: NvmlStub, gpu: Any) -> None:
    missing = error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    nvml.change(**{"gpu1.event_reasons": missing, "gpu1.throttle_reasons": 0x8})
    with pytest.raises(pynvml.NVMLError_FunctionNotFound):
        pynvml.nvmlDeviceGetCurrentClocksEventReasons(gpu)
    assert pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu) == 0x8
    nvml.change(**{"gpu1.throttle_reasons": error(pynvml.NVML_ERROR_NO_PERMISSION)})
    with pytest.raises(pynvml.NVMLError_NoPermission):
        pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(gpu)


def test_a_call_before_init_or_after_shutdown_fails(gpu: Any) -> None:
    pynvml.nvmlShutdown()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetPowerUsage(gpu)
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlShutdown()


CHILD = """
import dataclasses, json, sys
from bench.measure.listed import find_gpus
for line in sys.stdin:
    find_gpus.cache_clear()
    print(json.dumps(dataclasses.asdict(find_gpus())), flush=True)
"""


@pytest.mark.parametrize("inherited", [True, False])
def test_a_child_process_sees_it_and_its_changes(nvml: NvmlStub, inherited: bool) -> None:
    nvml.write(TWO_GPUS)
    environment = None if inherited else {"PATH": os.environ["PATH"]} | nvml.environment
    with subprocess.Popen(
        [sys.executable, "-c", CHILD],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:

        def ask() -> dict[str, Any]:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write("\n")
            child.stdin.flush()
            return json.loads(child.stdout.readline())

        assert [gpu["uuid"] for gpu in ask()["gpus"]] == ["GPU-aaaa", "GPU-bbbb"]
        nvml.change(**{"gpu1.lost": 1})
        assert ask()["left_out"] == "GPU 1: GPU is lost"
        nvml.write({"driver": "580.1"})
        assert ask()["reason"] == "the NVIDIA driver lists no GPU"


def test_threads_read_whole_scripts(nvml: NvmlStub, gpu: Any) -> None:
    """Four threads read while the script changes under them: each reading is an old or a new."""
    more_gpus = {f"gpu{index}.uuid": f"GPU-{index}" for index in range(2, 100)}
    small = {"gpu1.power_w": 1, "gpu1.memory_total_mib": 2000}
    large = {key: OURS[key] for key in small}
    odd: list[Any] = []
    enough = threading.Event()

    def read() -> None:
        while not enough.is_set():
            power_mw = pynvml.nvmlDeviceGetPowerUsage(gpu)
            total, used, free = memory_bytes(gpu)
            if power_mw not in (250_250, 1_000) or used + free != total:
                odd.append((power_mw, total, used, free))

    nvml.change(**more_gpus)  # a longer script: calls overlap more
    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        nvml.change(**small)
        nvml.change(**large)
    enough.set()
    for thread in threads:
        thread.join()
    assert odd == []


@pytest.mark.parametrize("key", ["gpu0.wattage", "gpu0.driver", "uuid"])
def test_a_misspelt_reading_is_refused(nvml: NvmlStub, key: str) -> None:
    with pytest.raises(KeyError, match="the NVML stub has no reading"):
        nvml.write({key: 1})


def test_afterwards_pynvml_is_as_before(nvml_library: Path, tmp_path: Path) -> None:
    def state() -> list[Any]:
        functions, texts = pynvml._nvmlGetFunctionPointer_cache, pynvml.NVMLError._errcode_to_string
        dicts = [dict(each) for each in (functions, texts, os.environ)]
        return [pynvml.nvmlLib, pynvml._nvmlLib_refcount, *dicts]

    before = state()
    with scripted_nvml(nvml_library, tmp_path / "script") as stub:
        stub.write(TWO_GPUS | {"driver": error(pynvml.NVML_ERROR_NO_DATA)})
        pynvml.nvmlInit()
        assert find_gpus().reason == "NVML fails: an error of the NVML stub's script"
        assert state() != before
    assert state() == before
    assert find_gpus.cache_info().currsize == 0
    assert ctypes.CDLL(str(nvml_library)).nvmlShutdown() == pynvml.NVML_ERROR_UNINITIALIZED


def test_the_stub_does_not_answer_to_the_real_name(nvml_library: Path) -> None:
    """Once loaded by its path, it must not stand in for a machine's own library."""
    stub = ctypes.CDLL(str(nvml_library))
    try:
        named = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return  # this machine has none
    assert named._handle != stub._handle
