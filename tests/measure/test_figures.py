"""Readings -> columns of runs.csv: against sums that anyone can redo; unknown is empty."""

import csv
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from bench.measure import samples
from bench.measure.figures import ENERGY_MIN_S, Phases, columns, host_rates, percent
from bench.measure.gpu_reader import GpuSample, GpuSettings
from bench.measure.host import HostSample
from bench.measure.series import Span, increase
from bench.measure.watch import GpuBaseline, GpuReading, Readings
from bench.records.columns import RUN_COLUMNS
from bench.records.rows import write_table

START = 500_000.0  # a clock that has run for days
GPU = GpuSample(**dict.fromkeys(GpuSample.__annotations__))  # nothing told
HOST = HostSample(**dict.fromkeys(HostSample.__annotations__))
OWN = 4711


def times(until_s: float, every_s: float = 0.1) -> list[float]:
    return [START + tick * every_s for tick in range(round(until_s / every_s) + 1)]


def train(*spans: Span) -> Phases:
    return Phases(tuple((START + begin, START + end) for begin, end in spans))


def on_gpu(moments: Sequence[float], of: Callable[[float], dict[str, Any]]) -> Readings:
    """`of`: seconds since START -> what NVML told, and `own`, the pids that are the cell's."""
    readings = Readings(0.1, 1)
    for at in moments:
        told = {"own": (), **of(at - START)}
        own = frozenset(told.pop("own"))
        readings.gpu.append((at, GpuReading((replace(GPU, **told),), own)))
    readings.baseline = GpuBaseline(GPU, GpuSettings())
    return readings


def on_host(
    moments: Sequence[float], of: Callable[[float], dict[str, Any]], n_cpus: int = 1
) -> Readings:
    readings = Readings(1.0, n_cpus)
    readings.host = [(at, replace(HOST, **of(at - START))) for at in moments]
    return readings


def test_every_column_is_one_of_runs_csv() -> None:
    phases = train((1.0, 12.0))
    told: dict[str, Any] = dict.fromkeys(GpuSample.__annotations__, 1.0)
    told |= {"processes": {OWN: 5.0}, "slowdowns": (), "xids": ()}
    readings = on_gpu(times(13), lambda t: told)
    readings.host = [(at, HOST) for at in times(13, 1.0)]
    assert set(columns(readings, phases)) <= set(RUN_COLUMNS)


@pytest.mark.parametrize("phases", [Phases(), train((0.0, 0.0)), train((1.0, 20.0))])
def test_without_readings_every_column_is_empty(phases: Phases) -> None:
    found = columns(Readings(0.1, 1), phases)
    assert [name for name, value in found.items() if value is not None] == []


class TestEnergy:
    """A worker that trains in many short spans with evaluations between."""

    SPANS = tuple((1.0 + 1.5 * i, 2.25 + 1.5 * i) for i in range(12))  # 15 s, 0.25 s between
    UNTIL = 30.0

    def of(self, phases: Phases, **told: Callable[[float], float | None]) -> dict[str, Any]:
        readings = on_gpu(times(self.UNTIL), lambda t: {name: of(t) for name, of in told.items()})
        return columns(readings, phases)

    def test_a_counter_that_grows_evenly_is_exact(self) -> None:
        found = self.of(train(*self.SPANS), energy_j=lambda t: 1e6 + 250.0 * t)
        assert found["gpu_energy_j"] == pytest.approx(250.0 * 15.0, rel=1e-6)
        assert found["gpu_power_mean_w"] == pytest.approx(250.0, rel=1e-6)
        assert found["gpu_energy_source"] == "energy_counter"

    def test_the_evaluations_are_not_in_it(self) -> None:
        """300 W in training, 100 W in evaluation; edges on readings, so that nothing mixes."""
        spans = [(1.0 + 2.0 * i, 2.0 + 2.0 * i) for i in range(12)]

        def energy(t: float) -> float:
            trained = sum(min(max(t - begin, 0.0), end - begin) for begin, end in spans)
            return 300.0 * trained + 100.0 * (t - trained)

        found = self.of(train(*spans), energy_j=energy)
        assert found["gpu_energy_j"] == pytest.approx(300.0 * 12.0, rel=1e-5)
        assert found["gpu_power_mean_w"] == pytest.approx(300.0, rel=1e-5)

    def test_edges_between_readings_mix_in_no_more_than_a_reading_each(self) -> None:
        shifted = [(begin + 0.037, end + 0.059) for begin, end in self.SPANS]

        def energy(t: float) -> float:
            trained = sum(min(max(t - begin, 0.0), end - begin) for begin, end in shifted)
            return 300.0 * trained + 100.0 * (t - trained)

        phases = train(*shifted)
        seconds = sum(end - begin for begin, end in phases.train)
        found = self.of(phases, energy_j=energy)["gpu_energy_j"]
        at_most = len(shifted) * 2 * 0.1 * (300.0 - 100.0)
        assert 300.0 * seconds - at_most < found <= 300.0 * seconds + 1e-3

    def test_a_power_that_changes_is_followed(self) -> None:
        """P(t) = 100 + 10 t: energy 100 t + 5 t^2."""
        found = self.of(train((5.0, 25.0)), energy_j=lambda t: 100 * t + 5 * t * t)
        assert found["gpu_energy_j"] == pytest.approx(100 * 20 + 5 * (625 - 25), rel=1e-6)
        found = self.of(train((5.03, 25.07)), power_average_w=lambda t: 100 + 10 * t)
        wanted = 100 * 20.04 + 5 * (25.07**2 - 5.03**2)
        assert found["gpu_energy_j"] == pytest.approx(wanted, rel=1e-6)

    def test_power_readings_take_the_counters_place_by_name(self) -> None:
        phases = train(*self.SPANS)
        instant, average = (lambda t: 200.0), (lambda t: 150.0)
        counter = lambda t: 250.0 * t  # noqa: E731
        sources = [
            ({"energy_j": counter, "power_instant_w": instant}, "energy_counter", 250.0),
            ({"power_instant_w": instant, "power_average_w": average}, "power_instant", 200.0),
            ({"power_average_w": average}, "power_average", 150.0),
        ]
        for told, source, watts in sources:
            found = self.of(phases, **told)
            assert found["gpu_energy_source"] == source
            assert found["gpu_power_mean_w"] == pytest.approx(watts)
            assert found["gpu_energy_j"] == pytest.approx(watts * 15.0)

    @pytest.mark.parametrize(
        ("told", "source", "watts"),
        [
            ({"energy_j": 610.0, "power_instant_w": 200.0}, "power_instant", 200.0),
            ({"energy_j": 610.0, "power_average_w": 150.0}, "energy_counter_module", 610.0),
            ({"power_average_w": 150.0}, None, None),  # whose power NVML does not say
        ],
    )
    def test_the_counter_of_a_module_with_a_cpu_is_none_of_the_gpu(
        self, told: dict[str, float], source: str | None, watts: float | None
    ) -> None:
        def of(t: float) -> dict[str, Any]:
            return {
                name: value * t if name == "energy_j" else value for name, value in told.items()
            }

        readings = on_gpu(times(self.UNTIL), of)
        readings.baseline = GpuBaseline(GPU, GpuSettings(module_power_w=610.0))
        found = columns(readings, train(*self.SPANS))
        assert found.get("gpu_energy_source") == source
        assert found.get("gpu_power_mean_w") == pytest.approx(watts)

    def test_a_counter_that_stopped_half_way_or_began_anew_is_not_used(self) -> None:
        phases, power = train((2.0, 28.0)), (lambda t: 200.0)
        stopped = self.of(
            phases, energy_j=lambda t: 250.0 * t if t < 15 else None, power_average_w=power
        )
        anew = self.of(phases, energy_j=lambda t: 250.0 * (t % 15), power_average_w=power)
        for found in (stopped, anew):
            assert found["gpu_energy_source"] == "power_average"
            assert found["gpu_energy_j"] == pytest.approx(200.0 * 26.0)
        alone = self.of(phases, energy_j=lambda t: 250.0 * (t % 15))
        assert "gpu_energy_j" not in alone

    def test_nothing_for_spans_of_which_the_edges_are_a_large_part(self) -> None:
        short = tuple((1.0 + 0.5 * i, 1.25 + 0.5 * i) for i in range(50))  # 12.5 s
        assert "gpu_energy_j" not in self.of(train(*short), energy_j=lambda t: 250.0 * t)

    def test_nothing_for_less_than_ten_seconds_of_training(self) -> None:
        told = {"energy_j": lambda t: 250.0 * t, "power_average_w": lambda t: 250.0}
        assert ENERGY_MIN_S == 10.0
        assert "gpu_energy_j" not in self.of(train((1.0, 10.99)), **told)
        # 20 s from its first edge to its last, and 9.9 s of training
        assert "gpu_energy_j" not in self.of(train((1.0, 6.0), (16.1, 21.0)), **told)
        assert self.of(train((1.0, 11.0)), **told)["gpu_energy_j"] == pytest.approx(2500.0)

    @pytest.mark.parametrize(
        "spans", [((-0.1, 20.0),), ((1.0, 30.1),), ((1.0, 12.0), (29.0, 31.0))]
    )
    def test_unknown_if_the_readings_do_not_cover_the_training(self, spans) -> None:
        found = self.of(
            train(*spans), energy_j=lambda t: 250.0 * t, power_instant_w=lambda t: 250.0
        )
        names = ("gpu_energy_j", "gpu_energy_source", "gpu_power_mean_w")
        assert [found.get(name) for name in names] == [None, None, None]

    def test_a_single_reading_is_no_energy(self) -> None:
        readings = on_gpu([START + 5.0], lambda t: {"energy_j": 1.0, "power_average_w": 1.0})
        assert "gpu_energy_j" not in columns(readings, train((1.0, 12.0)))


class TestGpuMemory:
    PHASES = replace(train((10.0, 20.0)), context=(START + 2.0, START + 3.0))

    def of(self, told: Callable[[float], dict[str, Any]], idle: float | None = None) -> tuple:
        readings = on_gpu(times(25), told)
        readings.baseline = GpuBaseline(replace(GPU, used_mib=idle), GpuSettings())
        found = columns(readings, self.PHASES)
        names = ("gpu_mem_nvml_peak_mib", "gpu_mem_source", "gpu_mem_context_mib")
        return tuple(found.get(name) for name in names)

    def test_the_cells_processes_are_added_and_no_others(self) -> None:
        processes = {OWN: 300.0, OWN + 1: 200.0, 99: 7000.0}
        told = {"processes": processes, "own": (OWN, OWN + 1), "used_mib": 9000.0}
        assert self.of(lambda t: told, idle=100.0) == (500.0, "process", 500.0)

    def test_a_peak_before_the_training_counts(self) -> None:
        """Warm-up and graph capture take memory that a replay never asks for again."""

        def told(t: float) -> dict[str, Any]:
            size = 250.0 if t < 4 else 900.0 if 5 <= t < 5.05 else 400.0
            return {"processes": {OWN: size}, "own": (OWN,)}

        assert self.of(told) == (900.0, "process", 250.0)

    def test_the_context_is_the_last_reading_of_its_window(self) -> None:
        def told(t: float) -> dict[str, Any]:
            return {"processes": {OWN: math.floor(t * 100)}, "own": (OWN,)}

        peak, _, context = self.of(told)
        assert (peak, context) == (2500, pytest.approx(300, abs=1))

    def test_no_reading_within_the_window_is_no_context(self) -> None:
        between = [at for at in times(25) if not START + 1.95 < at < START + 3.05]
        readings = on_gpu(between, lambda t: {"processes": {OWN: 250.0}, "own": (OWN,)})
        found = columns(readings, self.PHASES)
        assert (found["gpu_mem_nvml_peak_mib"], found["gpu_mem_context_mib"]) == (250.0, None)
        no_window = columns(readings, replace(self.PHASES, context=None))
        assert no_window["gpu_mem_context_mib"] is None

    def test_a_reading_exactly_at_the_windows_edge_is_within(self) -> None:
        edge = self.PHASES.context
        assert edge is not None
        for at in edge:
            readings = on_gpu([at], lambda t: {"processes": {OWN: 250.0}, "own": (OWN,)})
            assert columns(readings, self.PHASES)["gpu_mem_context_mib"] == 250.0

    def test_an_unlisted_worker_is_the_device_above_its_idle(self) -> None:
        def told(t: float) -> dict[str, Any]:
            return {"used_mib": 1600.0 if 6 <= t < 7 else 1250.0, "processes": {1: 300.0}}

        assert self.of(told, idle=1000.0) == (600.0, "device_delta", 250.0)

    def test_a_listed_worker_whose_size_is_not_told_is_the_device_above_its_idle(self) -> None:
        told = {"used_mib": 1250.0, "processes": {OWN: None}, "own": (OWN,)}
        assert self.of(lambda t: told, idle=1000.0) == (250.0, "device_delta", 250.0)

    def test_half_of_the_cells_processes_is_not_its_memory(self) -> None:
        told = {
            "used_mib": 1900.0,
            "processes": {OWN: 300.0, OWN + 1: None},
            "own": (OWN, OWN + 1),
        }
        assert self.of(lambda t: told, idle=1000.0) == (900.0, "device_delta", 900.0)

    def test_a_device_that_frees_others_memory_tells_nothing_of_the_cells(self) -> None:
        used = {"used_mib": lambda t: 800.0 if t < 5 else 1300.0}
        assert self.of(lambda t: {"used_mib": used["used_mib"](t)}, idle=1000.0)[0] is None

    @pytest.mark.parametrize(
        ("told", "idle"), [({}, 1000.0), ({"used_mib": 1200.0}, None), ({}, None)]
    )
    def test_otherwise_it_is_empty(self, told: dict[str, Any], idle: float | None) -> None:
        assert self.of(lambda t: told, idle) == (None, None, None)

    def test_without_a_baseline_it_is_empty(self) -> None:
        readings = on_gpu(times(25), lambda t: {"used_mib": 1200.0})
        readings.baseline = None
        assert "gpu_mem_nvml_peak_mib" not in columns(readings, self.PHASES)


class TestGpuState:
    def test_means_are_of_training_and_the_temperature_of_the_whole_life(self) -> None:
        def told(t: float) -> dict[str, Any]:
            training = 5 <= t <= 10 or 12 <= t <= 14
            return {
                "utilisation_pct": 90.0 if training else 1.0,
                "sm_clock_mhz": 1500.0 if training else 300.0,
                "temperature_c": 84.0 if 2 <= t < 2.05 else 70.0,
            }

        found = columns(on_gpu(times(20), told), train((5.05, 9.95), (12.05, 13.95)))
        assert found["gpu_util_mean_pct"] == pytest.approx(90.0)
        assert found["sm_clock_mean_mhz"] == pytest.approx(1500.0)
        assert found["gpu_temp_max_c"] == 84.0

    def test_the_range_of_the_clock_is_of_training_alone(self) -> None:
        def told(t: float) -> dict[str, Any]:
            throttled = 7 <= t < 8
            return {"sm_clock_mhz": (1200.0 if throttled else 1980.0) if 5 <= t <= 10 else 300.0}

        found = columns(on_gpu(times(20), told), train((5.05, 9.95)))
        assert (found["sm_clock_min_mhz"], found["sm_clock_max_mhz"]) == (1200.0, 1980.0)

    def test_the_settings_are_those_of_before_the_launch(self) -> None:
        readings = on_gpu(times(2), lambda t: {})
        names = ("gpu_power_limit_w", "gpu_power_default_w", "gpu_app_clocks_set")
        found = columns(readings, Phases())
        assert [found[name] for name in names] == [None, None, None]
        readings.baseline = GpuBaseline(GPU, GpuSettings(500.0, 700.0, app_clocks_set=False))
        found = columns(readings, Phases())
        assert [found[name] for name in names] == [500.0, 700.0, False]

    @pytest.mark.parametrize(("xids", "wanted"), [((), "none"), ((31, 79), "31 79"), (None, None)])
    def test_xids_are_of_the_whole_life(
        self, xids: tuple[int, ...] | None, wanted: str | None
    ) -> None:
        quiet = () if xids is not None else None
        readings = on_gpu(times(20), lambda t: {"xids": xids if t == 0 else quiet})
        assert columns(readings, train((5.0, 10.0)))["gpu_xids"] == wanted

    def test_readings_that_were_not_told_do_not_count_as_zero(self) -> None:
        def told(t: float) -> dict[str, Any]:
            known = round(t * 10) % 2 == 0
            return {"utilisation_pct": 80.0 if known else None, "sm_clock_mhz": None}

        found = columns(on_gpu(times(20), told), train((5.0, 10.0)))
        assert found["gpu_util_mean_pct"] == pytest.approx(80.0)
        assert found["sm_clock_mean_mhz"] is None
        assert found["gpu_temp_max_c"] is None

    def test_zero_is_a_figure(self) -> None:
        told = {"utilisation_pct": 0.0, "temperature_c": 0.0, "sm_clock_mhz": 0.0}
        found = columns(on_gpu(times(20), lambda t: told), train((5.0, 10.0)))
        names = ("gpu_util_mean_pct", "gpu_temp_max_c", "sm_clock_mean_mhz")
        assert [found[name] for name in names] == [0.0, 0.0, 0.0]

    def slowdowns(self, of: Callable[[float], tuple[str, ...] | None]) -> str | None:
        readings = on_gpu(times(20), lambda t: {"slowdowns": of(t)})
        found = columns(readings, train((4.95, 14.95)))["gpu_slowdowns"]  # 100 readings
        assert found is None or isinstance(found, str)
        return found

    def test_slowdowns_tell_their_share_of_training(self) -> None:
        def of(t: float) -> tuple[str, ...]:
            names = ("sw_power_cap",) if t < 7.95 else ()
            return (*names, "hw_slowdown") if 7.85 < t < 7.95 else names

        assert self.slowdowns(of) == "hw_slowdown 1.0%; sw_power_cap 30%"

    def test_no_slowdown_and_none_told_are_two_things(self) -> None:
        assert self.slowdowns(lambda t: ()) == "none"
        assert self.slowdowns(lambda t: None) is None
        assert self.slowdowns(lambda t: () if t > 14 else None) is None  # of a part alone
        assert self.slowdowns(lambda t: ("sw_power_cap",) if t < 4 or t > 16 else ()) == "none"


@pytest.mark.parametrize(
    ("share", "text"),
    [
        *((0.0, "0.0%"), (1.0, "100%"), (0.42, "42%"), (0.1, "10%"), (0.0999, "10.0%")),
        *((0.031, "3.1%"), (0.004, "0.4%"), (0.001, "0.1%")),
        *((1 / 36_000, "0.0028%"), (1 / 864_000, "0.0001%")),
    ],
)
def test_a_share_that_was_seen_is_not_written_as_nothing(share: float, text: str) -> None:
    assert percent(share) == text


class TestHostRates:
    PHASES = train((2.5, 6.5), (7.5, 13.5))  # 10 s

    def rates(self, n_cpus: int = 1, phases: Phases = PHASES, **per_s: float) -> dict[str, float]:
        """Counters that grow evenly."""
        readings = on_host(
            times(15, 1.0),
            lambda t: {name: 70.0 + rate * t for name, rate in per_s.items()},
            n_cpus,
        )
        return dict(host_rates(readings, phases))

    def test_each_is_a_share_of_the_cells_processor_time(self) -> None:
        found = self.rates(busy_s=0.9, cell_cpu_s=0.75, steal_s=0.05, throttled_s=0.02)
        wanted = {"cpu_steal": 0.05, "cpu_others": 0.15, "cgroup_throttled": 0.02}
        assert found == pytest.approx(wanted)

    def test_on_several_cpus_it_is_a_share_of_all_of_them(self) -> None:
        found = self.rates(4, busy_s=3.6, cell_cpu_s=3.0, steal_s=0.2, throttled_s=0.08)
        wanted = {"cpu_steal": 0.05, "cpu_others": 0.15, "cgroup_throttled": 0.02}
        assert found == pytest.approx(wanted)

    def test_columns_give_them_in_percent(self) -> None:
        readings = on_host(
            times(15, 1.0),
            lambda t: {"busy_s": t, "cell_cpu_s": 0.75 * t, "steal_s": 0.0, "throttled_s": 0.1 * t},
        )
        found = columns(readings, self.PHASES)
        names = ("cpu_others_pct", "cpu_steal_pct", "cpu_throttled_pct")
        assert [found[name] for name in names] == pytest.approx([25.0, 0.0, 10.0])

    def test_what_happens_outside_of_training_is_not_in_it(self) -> None:
        """Someone is busy before, between and after, and never in training."""
        outside = [(0.0, 2.0), (7.0, 7.0), (14.0, 15.0)]

        def counter(t: float) -> float:
            return sum(max(0.0, min(t, end) - begin) for begin, end in outside)

        readings = on_host(
            times(15, 0.5),
            lambda t: {"busy_s": counter(t) + t, "cell_cpu_s": t, "steal_s": counter(t)},
        )
        assert host_rates(readings, self.PHASES) == pytest.approx(
            {"cpu_steal": 0.0, "cpu_others": 0.0}, abs=1e-9
        )

    def test_never_negative_and_never_above_one(self) -> None:
        # two clocks of the kernel: the cell's account may run ahead of the CPUs'
        found = self.rates(busy_s=0.9, cell_cpu_s=0.95, steal_s=0.0, throttled_s=3.0)
        assert found == {"cpu_steal": 0.0, "cpu_others": 0.0, "cgroup_throttled": 1.0}

    def test_only_those_that_are_known(self) -> None:
        assert self.rates(busy_s=0.9) == {}
        assert self.rates(cell_cpu_s=0.9) == {}
        assert set(self.rates(steal_s=0.0)) == {"cpu_steal"}
        assert set(self.rates(busy_s=1.0, cell_cpu_s=1.0)) == {"cpu_others"}

    def test_the_slices_of_others_in_between_are_no_disturbance_and_no_quiet_either(self) -> None:
        """Counters are read once a second, and slices are shorter."""
        in_turn = replace(self.PHASES, in_turn=True)
        found = self.rates(phases=in_turn, busy_s=1.0, cell_cpu_s=0.5, steal_s=0.05)
        assert found == pytest.approx({"cpu_steal": 0.05})

    def test_a_cell_that_was_found_late_is_unknown_not_idle(self) -> None:
        readings = on_host(
            times(15, 1.0), lambda t: {"busy_s": t, "cell_cpu_s": t if t > 3.5 else None}
        )
        assert host_rates(readings, self.PHASES) == {}

    def test_processes_that_took_their_account_with_them_are_unknown_not_others(self) -> None:
        """The processor time of an orphan of the cell that ended is in nobody's figures."""
        readings = on_host(
            times(15, 1.0), lambda t: {"busy_s": t, "cell_cpu_s": t if t < 9 else t - 4.0}
        )
        assert host_rates(readings, self.PHASES) == {}

    def test_none_for_less_than_a_second_of_training(self) -> None:
        per_s = {"busy_s": 1.0, "cell_cpu_s": 0.5, "steal_s": 0.1, "throttled_s": 0.1}
        assert self.rates(phases=train((3.0, 3.999)), **per_s) == {}
        assert self.rates(phases=train((3.0, 3.5), (8.0, 8.4)), **per_s) == {}
        assert self.rates(phases=Phases(), **per_s) == {}
        assert len(self.rates(phases=train((3.0, 4.0)), **per_s)) == 3

    def test_none_without_readings_around_the_training(self) -> None:
        per_s = {"busy_s": 1.0, "cell_cpu_s": 0.5, "steal_s": 0.1}
        assert self.rates(phases=train((3.0, 15.1)), **per_s) == {}
        assert self.rates(phases=train((-0.1, 9.0)), **per_s) == {}
        assert host_rates(on_host([START + 5.0], lambda t: per_s), train((3.0, 9.0))) == {}


def test_peaks_of_the_host_are_of_the_whole_life_and_means_of_training() -> None:
    def told(t: float) -> dict[str, Any]:
        training = 5 <= t <= 10
        return {
            "rss_mib": 900.0 if t == 2 else 400.0,
            "cgroup_peak_mib": 1000.0 if t >= 2 else 10.0,
            "load": 3.0 if training else 50.0,
            "cpu_mhz": 2000.0 if training else None,
        }

    found = columns(on_host(times(15, 1.0), told), train((5.0, 10.0)))
    names = (
        "host_tree_rss_peak_mib",
        "cgroup_mem_peak_mib",
        "host_load_mean",
        "cpu_clock_mean_mhz",
    )
    assert [found[name] for name in names] == [900.0, 1000.0, 3.0, 2000.0]


def test_samples_csv_is_enough_to_redo_the_energy_and_the_shares(tmp_path: Path) -> None:
    launched, phases = START - 0.5, train((2.04, 8.07), (9.01, 17.03))
    readings = on_gpu(
        times(20),
        lambda t: {"energy_j": 1e6 + 100 * t + 5 * t * t, "processes": {OWN: 7.4}, "own": (OWN,)},
    )
    readings.host = on_host(times(20, 1.0), lambda t: {"steal_s": 0.03 * t}).host
    write_table(tmp_path / "s.csv", samples.COLUMNS, samples.rows(readings, launched, phases.train))
    with (tmp_path / "s.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    moments = [float(row["time_s"]) for row in rows]
    assert all(before <= after for before, after in pairwise(moments))
    spans = [(begin - launched, end - launched) for begin, end in phases.train]
    for row, at in zip(rows, moments, strict=True):
        assert row["training"] == str(any(begin <= at <= end for begin, end in spans)).lower()
    found = columns(readings, phases)

    def redone(column: str) -> float | None:
        series = [
            (at, float(row[column])) for row, at in zip(rows, moments, strict=True) if row[column]
        ]
        return increase(series, spans)

    assert redone("gpu_energy_j") == pytest.approx(found["gpu_energy_j"], rel=1e-4)
    seconds = sum(end - begin for begin, end in spans)
    steal = redone("cpu_steal_s")
    assert steal is not None
    assert 100 * steal / seconds == pytest.approx(found["cpu_steal_pct"], rel=1e-3)
    assert {row["gpu_processes"] for row in rows} == {f"{OWN}*:7", ""}
