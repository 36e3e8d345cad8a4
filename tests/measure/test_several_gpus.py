"""A cell with several GPUs: readings of each, figures of all, and what one that is lost changes."""

import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.measure import samples, taint
from bench.measure.figures import Phases, columns
from bench.measure.gpu_reader import NOTHING, GpuReader, GpuSample, GpuSettings
from bench.measure.gpu_sum import as_one
from bench.measure.host import CellProcesses
from bench.measure.watch import GpuBaseline, GpuReading, Readings, Watch
from bench.records.rows import read_table, write_table
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub, Reading

pytest_plugins = "tests.builders.nvml_stub"

BOTH = ("GPU-aaaa", "GPU-bbbb")
US = os.getpid()


def shown(gpu: int, **readings: Reading) -> dict[str, Reading]:
    return {f"gpu{gpu}.{name}": reading for name, reading in readings.items()}


FIRST = shown(
    0,
    memory_used_mib=1000,
    memory_total_mib=16000,
    processes={US: 900},
    energy_w=100,
    power_w=110,
    power_instant_w=120,
    power_limit_w=700,
    power_default_limit_w=700,
    utilisation_pct=80,
    sm_clock_mhz=1500,
    temperature_c=60,
    event_reasons=0,
    xids="31",
)
SECOND = shown(
    1,
    memory_used_mib=2000,
    memory_total_mib=16000,
    processes={US: 1900},
    energy_w=300,
    power_w=310,
    power_instant_w=320,
    power_limit_w=600,
    power_default_limit_w=700,
    utilisation_pct=40,
    sm_clock_mhz=1900,
    temperature_c=70,
    event_reasons=4,
    xids="31",
)


def until(holds: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.002)


def next_reading(watch: Watch) -> None:
    seen = len(watch.readings.gpu)
    until(lambda: len(watch.readings.gpu) >= seen + 2)


def watched(nvml: NvmlStub, *changes: dict[str, Reading]) -> Readings:
    """Readings of both GPUs as they are, and after each of these changes."""
    nvml.write(TWO_GPUS | FIRST | SECOND)
    with Watch(BOTH, [0], 0.01) as watch:
        watch.started(lambda: CellProcesses(US, own_cgroup=None))
        watch.event({"stage": "train"})
        until(lambda: watch.readings.gpu and watch.readings.gpu[-1][1].own_pids)
        next_reading(watch)
        for change in changes:
            nvml.change(**change)
            next_reading(watch)
    return watch.readings


def of_all(readings: Readings) -> dict[str, Any]:
    moments = [at for at, reading in readings.gpu if reading.own_pids]
    return columns(readings, Phases(train=((moments[0], moments[-1]),)))


def test_each_is_read_and_the_row_is_of_all(nvml: NvmlStub) -> None:
    readings = watched(nvml, shown(1, xids="31 43"))
    found = of_all(readings)
    found.pop("host_tree_rss_peak_mib")
    told = {name: value for name, value in found.items() if "gpu" in name or "sm_" in name}
    assert told == {
        "gpu_mem_nvml_peak_mib": 2800.0,
        "gpu_mem_source": "process",
        "gpu_mem_context_mib": None,
        "gpu_temp_max_c": 70.0,
        "gpu_util_mean_pct": 60.0,
        "sm_clock_mean_mhz": 1700.0,
        "sm_clock_min_mhz": 1500.0,
        "sm_clock_max_mhz": 1900.0,
        "gpu_slowdowns": "sw_power_cap 100%",
        "gpu_xids": "43",
        "gpu_power_limit_w": 1300.0,
        "gpu_power_default_w": 1400.0,
        "gpu_app_clocks_set": None,
    }
    assert readings.lost is None
    causes = taint.judge(readings, Phases(train=((readings.gpu[0][0], readings.gpu[-1][0]),)), {})
    assert "gpu_sw_power_cap" in [cause.name for cause in causes.causes if cause.held]


@pytest.mark.parametrize("gpu", [0, 1])
def test_another_process_on_any_of_them_is_foreign(nvml: NvmlStub, gpu: int) -> None:
    mine = {US: 900 if gpu == 0 else 1900}
    readings = watched(nvml, shown(gpu, processes={**mine, 4242: 50}))
    assert readings.gpu[-1][1].own_pids == {US}
    phases = Phases(train=((readings.gpu[0][0], readings.gpu[-1][0]),))
    (cause,) = [each for each in taint.judge(readings, phases, {}).causes if "foreign" in each.name]
    assert cause.held
    assert columns(readings, phases)["gpu_mem_nvml_peak_mib"] == 2800.0


@pytest.mark.parametrize("gpu", [0, 1])
def test_one_that_is_lost_is_told_by_name_and_the_other_is_read_on(
    nvml: NvmlStub, gpu: int
) -> None:
    readings = watched(nvml, shown(gpu, lost=1), shown(1 - gpu, xids="31 79"))
    assert (readings.lost or "").startswith(f"{BOTH[gpu]} GPU is lost")
    last = readings.gpu[-1][1]
    assert last.samples[gpu].used_mib is None
    assert last.samples[1 - gpu].used_mib == (2000 if gpu == 0 else 1000)
    assert last.sample.used_mib is None
    found = of_all(readings)
    assert found["gpu_mem_nvml_peak_mib"] == 2800.0  # while all were told
    assert found["gpu_util_mean_pct"] is None
    assert found["gpu_xids"] == "79"
    assert any(key.startswith(f"gpu {BOTH[gpu]} device") for key in readings.reasons)


def test_the_context_is_read_of_all(nvml: NvmlStub) -> None:
    nvml.write(TWO_GPUS | FIRST | SECOND)
    with Watch(BOTH, [0], 0.01) as watch:
        watch.started(lambda: CellProcesses(US, own_cgroup=None))
        watch.event({"stage": "data"})
        until(lambda: watch.readings.gpu and watch.readings.gpu[-1][1].own_pids)
        begin = time.monotonic()
        next_reading(watch)
        end = time.monotonic()
    found = columns(watch.readings, Phases(context=(begin, end)))
    assert found["gpu_mem_context_mib"] == 2800.0


# --- Arithmetic, without NVML ------------------------------------------------------------------


def readings_of(seconds: int, *of: Callable[[int], dict[str, Any]]) -> Readings:
    """`of`: of each GPU, second -> what it tells."""
    readings = Readings(1.0, 1, on_gpu=True, baseline=GpuBaseline(NOTHING, GpuSettings()))
    for at in range(seconds + 1):
        each = tuple(dataclasses.replace(NOTHING, **told(at)) for told in of)
        readings.gpu.append((float(at), GpuReading(each, frozenset({7}))))
    return readings


def test_memory_is_the_highest_sum_at_one_moment() -> None:
    """Not the sum of peaks that came one after the other."""
    first, second = [100.0, 500.0, 100.0], [100.0, 100.0, 400.0]
    readings = readings_of(
        2, lambda at: {"processes": {7: first[at]}}, lambda at: {"processes": {7: second[at]}}
    )
    assert columns(readings, Phases())["gpu_mem_nvml_peak_mib"] == 600.0


def test_a_process_on_one_of_them_alone_counts_there() -> None:
    readings = readings_of(1, lambda at: {"processes": {7: 300.0}}, lambda at: {"processes": {}})
    assert columns(readings, Phases())["gpu_mem_nvml_peak_mib"] == 300.0


def test_what_one_does_not_list_is_the_devices_gain() -> None:
    readings = readings_of(
        1,
        lambda at: {"processes": {7: 300.0}, "used_mib": 450.0},
        lambda at: {"used_mib": 550.0},
    )
    idle = dataclasses.replace(NOTHING, used_mib=200.0)
    readings.baseline = GpuBaseline(as_one([idle, idle]), GpuSettings())
    found = columns(readings, Phases())
    assert (found["gpu_mem_nvml_peak_mib"], found["gpu_mem_source"]) == (600.0, "device_delta")


@pytest.mark.parametrize(
    ("first", "second", "source"),
    [
        ({"energy_j": 100.0}, {"energy_j": 30.0}, "energy_counter"),
        ({"energy_j": 100.0, "power_instant_w": 100.0}, {"power_instant_w": 30.0}, "power_instant"),
        ({"power_average_w": 100.0}, {"power_average_w": 30.0}, "power_average"),
    ],
)
def test_energy_and_power_are_sums(
    first: dict[str, float], second: dict[str, float], source: str
) -> None:
    def told(figures: dict[str, float]) -> Callable[[int], dict[str, Any]]:
        return lambda at: {k: at * v if k == "energy_j" else v for k, v in figures.items()}

    found = columns(readings_of(22, told(first), told(second)), Phases(train=((1.0, 21.0),)))
    assert found["gpu_energy_source"] == source
    assert found["gpu_energy_j"] == pytest.approx(130.0 * 20)
    assert found["gpu_power_mean_w"] == pytest.approx(130.0)


def test_energy_of_which_one_tells_nothing_is_empty() -> None:
    readings = readings_of(22, lambda at: {"energy_j": 1.0 * at}, lambda at: {})
    assert "gpu_energy_j" not in columns(readings, Phases(train=((1.0, 21.0),)))


SAMPLES = st.builds(
    GpuSample,
    *(st.none() | st.floats(0, 1e6),),
    st.none() | st.dictionaries(st.integers(1, 5), st.none() | st.floats(0, 1e6)),
    *(st.none() | st.floats(0, 1e6) for _ in range(6)),
    st.none() | st.lists(st.sampled_from(["a", "b"]), unique=True).map(tuple),
    st.none() | st.lists(st.integers(1, 200)).map(tuple),
)


@given(SAMPLES)
def test_one_gpu_is_what_it_is(sample: GpuSample) -> None:
    assert as_one([sample]) is sample


@given(st.lists(SAMPLES, min_size=2, max_size=8))
def test_a_figure_that_one_does_not_tell_is_not_told(each: list[GpuSample]) -> None:
    one = as_one(each)
    for name in vars(NOTHING):
        told = [getattr(sample, name) is not None for sample in each]
        wanted = any(told) if name == "xids" else all(told)
        assert (getattr(one, name) is not None) == wanted, name
    if one.processes is not None:
        assert set(one.processes) == {pid for sample in each for pid in sample.processes or ()}
    if one.slowdowns is not None:
        assert set(one.slowdowns) == {name for sample in each for name in sample.slowdowns or ()}


# --- samples.csv -------------------------------------------------------------------------------


def test_samples_have_a_row_for_each_gpu_and_moment(tmp_path: Path) -> None:
    readings = readings_of(
        1,
        lambda at: {"processes": {7: 100.0 + at, 9: 5.0}, "sm_clock_mhz": 1500.0},
        lambda at: {"processes": {9: 40.0}, "sm_clock_mhz": 1900.0},
    )
    path = tmp_path / "samples.csv"
    write_table(path, samples.COLUMNS, samples.rows(readings, 0.0, [(0.0, 1.0)]))
    rows = read_table(path)
    wanted = ("time_s", "gpu", "gpu_own_mib", "gpu_processes", "sm_clock_mhz")
    assert [tuple(row[name] for name in wanted) for row in rows] == [
        ("0.0", "0", "100.0", "7*:100 9:5", "1500.0"),
        ("0.0", "1", "", "9:40", "1900.0"),
        ("1.0", "0", "101.0", "7*:101 9:5", "1500.0"),
        ("1.0", "1", "", "9:40", "1900.0"),
    ]


def test_a_reader_is_opened_and_closed_for_each(nvml: NvmlStub) -> None:
    """Each has its own count of users of the library."""
    nvml.write(TWO_GPUS | FIRST | SECOND)
    readers = [GpuReader(uuid) for uuid in BOTH]
    readers[0].close()
    assert readers[1].read().used_mib == 2000
    readers[1].close()
