"""Single readings of a GPU: the real pynvml over a stub of NVIDIA's library."""

import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import pynvml
import pytest

from bench.measure.gpu_reader import NOTHING, GpuReader, GpuSettings
from bench.measure.listed import find_gpus
from tests.builders.nvml_stub import TWO_GPUS, WITH_MIG, NvmlStub, Reading, error
from tests.builders.two_gpus import OTHERS, OURS, SAID, moment, without_energy

pytest_plugins = "tests.builders.nvml_stub"


# key of the script -> (field of a sample, name of its reason)
FIELDS = {
    "memory_used_mib": ("used_mib", "memory"),
    "processes": ("processes", "processes"),
    "energy_w": ("energy_j", "energy"),
    "power_instant_w": ("power_instant_w", "power_instant"),
    "power_w": ("power_average_w", "power_average"),
    "utilisation_pct": ("utilisation_pct", "utilisation"),
    "sm_clock_mhz": ("sm_clock_mhz", "sm_clock"),
    "temperature_c": ("temperature_c", "temperature"),
    "event_reasons": ("slowdowns", "slowdowns"),
}
GONE = [
    pynvml.NVML_ERROR_GPU_IS_LOST,
    pynvml.NVML_ERROR_RESET_REQUIRED,
    pynvml.NVML_ERROR_UNINITIALIZED,
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED,
]
FOR_GOOD = [
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_NO_PERMISSION,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_INVALID_ARGUMENT,
]


@pytest.fixture
def reader(nvml: NvmlStub) -> Iterator[GpuReader]:
    """Of the second of two GPUs, with all readings."""
    nvml.write(TWO_GPUS | OTHERS | OURS)
    found = GpuReader("GPU-bbbb")
    yield found
    found.close()


def test_a_reading_has_every_field_in_its_unit(reader: GpuReader) -> None:
    before = time.monotonic()
    sample = reader.read()
    after = time.monotonic()
    assert without_energy(sample) == SAID
    assert sample.energy_j is not None
    assert 250 * before - 0.01 <= sample.energy_j <= 250 * after
    assert reader.settings() == GpuSettings(650.0, 700.0, app_clocks_set=True)
    assert reader.reasons == {}


@pytest.mark.parametrize(
    ("bits", "names"),
    [
        (0x0, ()),
        (0x1 | 0x2 | 0x10 | 0x100, ()),  # idle, asked-for clocks, sync boost, display
        (0x4, ("sw_power_cap",)),
        (0x8, ("hw_slowdown",)),
        (0x20, ("sw_thermal_slowdown",)),
        (0x40, ("hw_thermal_slowdown",)),
        (0x80, ("hw_power_brake_slowdown",)),
        (0xC8, ("hw_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown")),
    ],
)
def test_slowdowns_by_their_names(
    nvml: NvmlStub, reader: GpuReader, bits: int, names: tuple[str, ...]
) -> None:
    nvml.change(**{"gpu1.event_reasons": bits})
    assert reader.read().slowdowns == names


def test_an_older_driver_tells_them_under_the_older_name(nvml: NvmlStub, reader: GpuReader) -> None:
    missing = error(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
    nvml.change(**{"gpu1.event_reasons": missing, "gpu1.throttle_reasons": 0x8})
    assert reader.read().slowdowns == ("hw_slowdown",)
    assert reader.reasons == {}
    nvml.change(**{"gpu1.throttle_reasons": missing})
    assert reader.read().slowdowns is None
    assert "slowdowns" in reader.reasons


def test_the_gpu_is_found_by_its_uuid_whatever_its_number(nvml: NvmlStub) -> None:
    swapped = {
        key.replace("gpu0", "@").replace("gpu1", "gpu0").replace("@", "gpu1"): value
        for key, value in (TWO_GPUS | OTHERS | OURS).items()
    }
    for script in (TWO_GPUS | OTHERS | OURS, swapped):
        nvml.write(script)
        reader = GpuReader("GPU-bbbb")
        assert without_energy(reader.read()) == SAID
        reader.close()


@pytest.mark.parametrize("code", FOR_GOOD)
@pytest.mark.parametrize("key", FIELDS)
def test_what_is_unsupported_is_none_alone_with_its_reason_and_asked_once(
    nvml: NvmlStub, reader: GpuReader, key: str, code: int
) -> None:
    field, name = FIELDS[key]
    if key == "event_reasons" and code == pynvml.NVML_ERROR_FUNCTION_NOT_FOUND:
        nvml.change(**{"gpu1.throttle_reasons": error(code)})
    nvml.change(**{f"gpu1.{key}": error(code)})
    before = time.monotonic()
    sample = asdict(reader.read())
    assert sample.pop(field) is None
    assert None not in sample.values()
    assert list(reader.reasons) == [name]
    said = str(pynvml.NVMLError(code))
    if (key, code) == ("processes", pynvml.NVML_ERROR_FUNCTION_NOT_FOUND):
        said = "NVMLLibraryMismatchError"  # which pynvml makes of it, and which is no NVMLError
    assert said in reader.reasons[name]
    assert before - 0.001 <= moment(reader.reasons[name]) <= time.monotonic() + 0.001
    nvml.change(**{f"gpu1.{key}": OURS[f"gpu1.{key}"]})
    assert asdict(reader.read())[field] is None  # it was not asked again


@pytest.mark.parametrize("key", FIELDS)
def test_a_call_that_fails_once_is_asked_again(nvml: NvmlStub, reader: GpuReader, key: str) -> None:
    field, name = FIELDS[key]
    nvml.change(**{f"gpu1.{key}": error(pynvml.NVML_ERROR_UNKNOWN)})
    assert asdict(reader.read())[field] is None
    first = reader.reasons[name]
    reader.read()
    nvml.change(**{f"gpu1.{key}": OURS[f"gpu1.{key}"]})
    assert without_energy(reader.read()) == SAID
    assert reader.reasons == {name: first}


def test_power_limits_may_be_unsupported(nvml: NvmlStub, reader: GpuReader) -> None:
    nvml.change(**{"gpu1.power_limit_w": None})
    assert reader.settings() == GpuSettings(None, 700.0, app_clocks_set=True)
    nvml.change(**{"gpu1.power_default_limit_w": None})
    assert reader.settings() == GpuSettings(None, None, app_clocks_set=True)
    assert set(reader.reasons) == {"power_limit", "power_default"}
    assert without_energy(reader.read()) == SAID


def test_a_gpu_that_tells_nothing_is_not_zero(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS)
    reader = GpuReader("GPU-bbbb")
    assert reader.read() == NOTHING
    assert set(reader.reasons) == {name for _, name in FIELDS.values()} | {"xids"}
    reader.close()


@pytest.mark.parametrize("answers", [False, True])
def test_an_instance_has_no_figure_of_the_whole_gpu(nvml: NvmlStub, answers: bool) -> None:
    """Whether its driver refuses them, or answers for the instance with the GPU's own."""
    own: dict[str, Reading] = {"memory_used_mib": 70, "memory_total_mib": 80, "processes": {5: 60}}
    whole = {key.partition(".")[2]: value for key, value in OURS.items()} if answers else {}
    instance = {f"gpu1.mig0.{key}": value for key, value in (whole | own).items()}
    nvml.write(WITH_MIG | OTHERS | OURS | instance)
    reader = GpuReader("MIG-b0")
    assert reader.read() == replace(NOTHING, used_mib=70, processes={5: 60})
    assert reader.settings() == GpuSettings()
    lacking = {name for _, name in FIELDS.values()} - {"memory", "processes"}
    settings = {"power_limit", "power_default", "module_power", "app_clocks"}
    assert set(reader.reasons) == lacking | settings | {"xids"}
    assert set(reader.reasons.values()) == {
        "it is the whole GPU's, and this is an instance of one (MIG)"
    }
    reader.close()


def test_an_error_of_pynvml_itself_is_a_reason_too(
    reader: GpuReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistaken(handle: Any, sensor: int) -> int:
        raise TypeError("an integer is required")

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTemperature", mistaken)
    assert without_energy(reader.read()) == replace(SAID, temperature_c=None)
    assert list(reader.reasons) == ["temperature"]
    assert reader.reasons["temperature"].startswith("TypeError: an integer is required (at ")


def test_without_a_driver(nvml: NvmlStub) -> None:
    reader = GpuReader("GPU-bbbb")
    assert reader.read() == NOTHING
    assert reader.settings() == GpuSettings()
    assert "Driver Not Loaded" in reader.reasons.pop("device")
    assert reader.reasons == {}
    reader.close()


def test_with_a_driver_of_another_version(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OURS | {"init": error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)})
    reader = GpuReader("GPU-bbbb")
    assert reader.read() == NOTHING
    assert "version mismatch" in reader.reasons["device"]
    reader.close()


def test_with_an_unknown_uuid(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS)
    reader = GpuReader("GPU-cccc")
    assert reader.read() == NOTHING
    assert "Not Found" in reader.reasons["device"]
    reader.close()


@pytest.mark.parametrize("code", GONE)
def test_a_gpu_that_is_lost_half_way_is_left_alone_from_then_on(
    nvml: NvmlStub, reader: GpuReader, code: int
) -> None:
    reader.read()
    before = time.monotonic()
    nvml.change(**{"gpu1.lost": error(code)})
    assert replace(reader.read(), xids=None) == NOTHING
    assert str(pynvml.NVMLError(code)) in reader.reasons["device"]
    assert before - 0.001 <= moment(reader.reasons["device"]) <= time.monotonic() + 0.001
    nvml.change(**{"gpu1.lost": None})
    assert reader.read() == NOTHING


def test_closing_leaves_nvml_to_its_other_users(nvml: NvmlStub, reader: GpuReader) -> None:
    other = GpuReader("GPU-bbbb")
    other.close()
    other.close()
    assert without_energy(reader.read()) == SAID
    reader.close()
    with pytest.raises(pynvml.NVMLError_Uninitialized):
        pynvml.nvmlDeviceGetCount()
    assert len(find_gpus().gpus) == 2


def test_a_gpu_that_is_lost_after_it_answered_is_told_with_its_moment(
    nvml: NvmlStub, reader: GpuReader
) -> None:
    reader.read()
    assert reader.lost is None
    before = time.monotonic()
    nvml.change(**{"gpu1.lost": 1})
    assert reader.read() == replace(NOTHING, xids=())
    assert reader.lost is not None
    assert reader.lost.startswith("GPU is lost (at ")
    assert moment(reader.lost) >= before - 0.001


def test_a_gpu_that_never_answered_is_not_lost(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | {"gpu1.lost": 1})
    reader = GpuReader("GPU-bbbb")
    reader.read()
    assert (reader.lost, "device" in reader.reasons) == (None, True)


def test_unknown_errors_of_all_calls_at_once_are_a_loss(nvml: NvmlStub, reader: GpuReader) -> None:
    """As where a reload of systemd takes a container's devices away; one alone is a quirk."""
    reader.read()
    unknown = error(pynvml.NVML_ERROR_UNKNOWN)
    nvml.change(**{"gpu1.memory_used_mib": unknown})
    reader.read()
    assert reader.lost is None
    nvml.change(**{"gpu1.lost": unknown})
    reader.read()
    assert reader.lost is not None
    assert reader.lost.startswith("Unknown Error (at ")
    nvml.change(**{"gpu1.lost": None})
    assert reader.read() == NOTHING  # it is not asked again


def test_each_xid_is_told_once_and_those_of_before_never(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | OTHERS | OURS | {"gpu1.xids": "31"})
    reader = GpuReader("GPU-bbbb")
    assert reader.read().xids == ()
    nvml.change(**{"gpu0.xids": "79", "gpu1.xids": "31 43 79"})
    assert reader.read().xids == (43, 79)
    assert reader.read().xids == ()
    nvml.change(**{"gpu1.xids": "31 43 79 79", "gpu1.lost": 1})
    assert reader.read().xids == (79,)  # why the GPU is lost
    reader.close()


@pytest.mark.parametrize(
    ("clock", "default", "is_set"),
    [(1980, 1980, False), (1410, 1980, True), (None, 1980, None), (1410, None, None)],
)
def test_application_clocks(
    nvml: NvmlStub, reader: GpuReader, clock: int | None, default: int | None, is_set: bool | None
) -> None:
    nvml.change(**{"gpu1.app_clock_mhz": clock, "gpu1.app_clock_default_mhz": default})
    assert reader.settings().app_clocks_set is is_set


def test_the_power_of_a_module_is_told_where_there_is_one(
    nvml: NvmlStub, reader: GpuReader
) -> None:
    assert reader.settings().module_power_w is None
    assert reader.reasons == {}  # most GPUs have none: nothing is missing
    nvml.change(**{"gpu1.module_power_w": 610.5})
    assert reader.settings().module_power_w == 610.5
    assert reader.read().power_instant_w == 260.5  # the GPU alone
