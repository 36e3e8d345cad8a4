"""What disturbed a cell from outside: each cause by itself, at its threshold and on either side."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import pytest

from bench.measure.figures import Phases
from bench.measure.gpu_reader import SLOWDOWNS, GpuSample, GpuSettings
from bench.measure.host import CellProcesses, HostSample
from bench.measure.taint import (
    OTHERS_SHARE,
    ROUNDING_MIB,
    STEAL_SHARE,
    THROTTLED_SHARE,
    Cause,
    Taint,
    judge,
)
from bench.measure.watch import GpuBaseline, GpuReading, Readings, Watch
from bench.merge.disturbed import names

GPU = GpuSample(**dict.fromkeys(GpuSample.__annotations__))  # nothing told
HOST = HostSample(**dict.fromkeys(HostSample.__annotations__))
TRAIN = Phases(((10.0, 19.95),))  # with 100 readings of the GPU, from 10.0 s to 19.9 s
OWN, FOREIGN = 4711, 99

Told = Callable[[float], Any]


def host(n_cpus: int = 1, **told: Told) -> Readings:
    """A cell without a GPU. Of each figure: its value at a moment."""
    readings = Readings(1.0, n_cpus)
    for at in map(float, range(31)):
        sample = replace(HOST, **{name: of(at) for name, of in told.items()})
        readings.host.append((at, sample))
    return readings


def gpu(
    processes: Told = lambda t: None,
    slowdowns: Told = lambda t: None,
    own: Collection[int] = (),
    idle: GpuSample = GPU,
    limits_w: tuple[float | None, float | None] = (None, None),
) -> Readings:
    """A cell on a GPU of which nothing but this is told. `own`: pids that are the cell's."""
    readings = Readings(0.1, 1, on_gpu=True, baseline=GpuBaseline(idle, GpuSettings(*limits_w)))
    for tick in range(301):
        at = tick / 10
        listed = processes(at)
        sample = replace(GPU, processes=listed, slowdowns=slowdowns(at))
        readings.gpu.append((at, GpuReading((sample,), frozenset(set(own) & set(listed or ())))))
    return readings


def checks(
    readings: Readings, phases: Phases = TRAIN, **row: float | None
) -> dict[str, tuple[bool | None, str]]:
    taint = judge(readings, phases, row)
    found = {cause.name: (cause.held, cause.detail) for cause in taint.causes}
    assert len(found) == len(taint.causes), "a cause is told twice"
    # what the report reads back from the row
    assert names(taint.reasons or "") == [cause for cause, (held, _) in found.items() if held]
    return found


def foreign(*arguments: Any, **options: Any) -> tuple[bool | None, str]:
    return checks(gpu(*arguments, **options))["gpu_foreign_process"]


class TestCpu:
    """Counters that grow by a share of each second."""

    def held(self, share: float, n_cpus: int = 1) -> dict[str, bool | None]:
        per_s = share * n_cpus
        readings = host(
            n_cpus,
            steal_s=lambda t: per_s * t,
            throttled_s=lambda t: per_s * t,
            busy_s=lambda t: n_cpus * t,
            cell_cpu_s=lambda t: (n_cpus - per_s) * t,
            swapped_mib=lambda t: 0.0,
        )
        return {cause: held for cause, (held, _) in checks(readings).items()}

    @pytest.mark.parametrize("n_cpus", [1, 2, 96])
    @pytest.mark.parametrize(
        ("cause", "limit"),
        [
            ("cpu_steal", STEAL_SHARE),
            ("cpu_others", OTHERS_SHARE),
            ("cgroup_throttled", THROTTLED_SHARE),
        ],
    )
    def test_above_the_threshold_and_not_below(self, cause: str, limit: float, n_cpus: int) -> None:
        assert self.held(limit * 1.001, n_cpus)[cause] is True
        assert self.held(limit * 0.999, n_cpus)[cause] is False
        assert self.held(0.0, n_cpus)[cause] is False

    def test_exactly_at_the_threshold_is_not_above_it(self) -> None:
        """Over a power of two of seconds, so that nothing is rounded on the way."""
        phases = Phases(((2.0, 18.0),))
        counters = {
            "steal_s": STEAL_SHARE,
            "busy_s": OTHERS_SHARE,
            "throttled_s": THROTTLED_SHARE,
        }
        told = {
            name: lambda t, grown=16 * limit: grown if t >= 3 else 0.0
            for name, limit in counters.items()
        }
        found = checks(host(**told, cell_cpu_s=lambda t: 0.0), phases)
        causes = ("cpu_steal", "cpu_others", "cgroup_throttled")
        assert [found[cause][0] for cause in causes] == [False, False, False]

    def test_the_share_is_told(self) -> None:
        readings = host(
            steal_s=lambda t: 0.031 * t, busy_s=lambda t: t, cell_cpu_s=lambda t: 0.5 * t
        )
        taint = judge(readings, TRAIN, {})
        assert taint.reasons == "cpu_steal 3.1%; cpu_others 50%"
        assert taint.tainted is True

    def test_the_cell_itself_disturbs_nobody(self) -> None:
        assert self.held(0.0, 64)["cpu_others"] is False

    def test_a_short_training_is_unchecked_with_the_reason(self) -> None:
        readings = host(steal_s=lambda t: t, busy_s=lambda t: t, cell_cpu_s=lambda t: 0.0)
        found = checks(readings, Phases(((10.0, 10.9),)))
        assert found["cpu_steal"] == (None, "the training phase is shorter than 1 s")

    def test_what_the_host_does_not_tell_is_unchecked(self) -> None:
        found = checks(host(busy_s=lambda t: t, steal_s=lambda t: 0.0))
        assert found["cpu_steal"][0] is False
        assert found["cpu_others"] == (None, "the cell's processes were not found on this host")
        assert found["cgroup_throttled"] == (
            None,
            "the cell's processes were not found on this host",
        )


class TestSwap:
    def test_any_in_training_taints_with_its_share(self) -> None:
        found = checks(host(swapped_mib=lambda t: 0.25 if t < 12 else 0.0))
        assert found["swap"] == (True, "20%")  # 10 and 11 of 10, 11, ... 19

    def test_none_in_training_does_not(self) -> None:
        assert checks(host(swapped_mib=lambda t: 9.0 if t > 20 else 0.0))["swap"][0] is False

    def test_untold_is_unchecked(self) -> None:
        assert checks(host())["swap"] == (None, "the cell's processes were not found on this host")


class TestForeignProcess:
    def test_a_known_worker_alone_is_clean(self) -> None:
        assert foreign(lambda t: {OWN: 300.0}, own=[OWN]) == (False, "")

    def test_another_beside_it_taints_for_its_share(self) -> None:
        def listed(t: float) -> dict[int, float | None]:
            return {OWN: 300.0} | ({FOREIGN: 50.0} if t < 12.05 else {})

        assert foreign(listed, own=[OWN]) == (True, "21%")  # 10.0, 10.1, ... 12.0

    def test_a_single_reading_of_it_is_not_written_as_nothing(self) -> None:
        taint = judge(
            gpu(lambda t: {OWN: 1.0} | ({FOREIGN: None} if t == 15 else {}), own=[OWN]), TRAIN, {}
        )
        assert taint.reasons == "gpu_foreign_process 1.0%"

    def test_before_and_after_the_training_it_disturbs_nothing(self) -> None:
        def listed(t: float) -> dict[int, float | None]:
            return {OWN: 1.0} | ({} if 10 <= t <= 19.95 else {FOREIGN: 1.0})

        assert foreign(listed, own=[OWN])[0] is False

    def test_at_the_edge_of_the_training_it_does(self) -> None:
        assert foreign(lambda t: {OWN: 1.0} | ({FOREIGN: 1.0} if t == 10 else {}), own=[OWN])[0]

    def test_a_worker_of_two_processes_is_not_foreign_to_itself(self) -> None:
        listed = {OWN: 300.0, OWN + 1: 200.0}
        assert foreign(lambda t: listed, own=[OWN, OWN + 1])[0] is False
        assert foreign(lambda t: listed | {FOREIGN: 1.0}, own=[OWN, OWN + 1])[0] is True

    def test_a_worker_that_is_still_listed_just_after_its_end_is_not_foreign(self) -> None:
        """Its pid is in no process list any more, and NVML has not noticed yet."""
        readings = gpu(lambda t: {OWN: 1.0}, own=[OWN])
        readings.gpu = [
            (at, replace(reading, own_pids=frozenset()) if at > 19.5 else reading)
            for at, reading in readings.gpu
        ]
        assert checks(readings)["gpu_foreign_process"] == (False, "")

    def test_a_worker_that_was_matched_late_is_not_foreign_before(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0}, own=[OWN])
        readings.gpu = [
            (at, replace(reading, own_pids=frozenset()) if at < 15 else reading)
            for at, reading in readings.gpu
        ]
        assert checks(readings)["gpu_foreign_process"] == (False, "")

    @pytest.mark.parametrize("before", [None, {}, {FOREIGN: 50.0}])
    def test_an_unlisted_worker_is_unknown_never_foreign(self, before) -> None:
        """In a container ourselves, we see the worker under a number that we cannot match."""
        idle = replace(GPU, processes=before)
        held, why = foreign(lambda t: {OWN: 300.0}, idle=idle)
        assert held is None
        assert why == "NVML lists no process that is known to be the cell's"
        assert foreign(lambda t: {OWN: 300.0, OWN + 1: 5.0}, idle=idle)[0] is None

    def test_an_unlisted_worker_is_unknown_also_where_none_is_listed(self) -> None:
        assert foreign(lambda t: {}, idle=replace(GPU, processes={}))[0] is None

    def test_beside_an_unlisted_worker_one_that_was_there_before_is_foreign(self) -> None:
        idle = replace(GPU, processes={FOREIGN: 50.0})

        def listed(t: float) -> dict[int, float | None]:
            return {OWN: 300.0} | ({FOREIGN: 50.0} if t < 15 else {})

        assert foreign(listed, idle=idle) == (True, "50%")

    def test_one_that_was_there_before_is_foreign_to_a_known_worker_too(self) -> None:
        idle = replace(GPU, processes={FOREIGN: 50.0})
        assert foreign(lambda t: {OWN: 1.0, FOREIGN: 50.0}, own=[OWN], idle=idle) == (True, "100%")

    def test_no_list_is_unchecked(self) -> None:
        found = foreign(lambda t: None, own=[OWN])
        assert found == (None, "NVML did not list processes all through training")
        assert foreign(lambda t: {OWN: 1.0} if t < 9 else None, own=[OWN])[0] is None

    def test_readings_without_a_list_do_not_thin_the_share(self) -> None:
        def listed(t: float) -> dict[int, float | None] | None:
            return {OWN: 1.0, FOREIGN: 1.0} if round(t * 10) % 2 else None

        assert foreign(listed, own=[OWN]) == (True, "100%")


class TestSlowdown:
    def of(
        self,
        told: Told,
        before: tuple[str, ...] | None = (),
        limits_w: tuple[float | None, float | None] = (700.0, 700.0),
    ) -> dict[str, str]:
        """What taints, with its share."""
        idle = replace(GPU, slowdowns=before)
        found = checks(gpu(slowdowns=told, idle=idle, limits_w=limits_w))
        return {cause: detail for cause, (held, detail) in found.items() if held}

    def test_none_is_clean(self) -> None:
        assert self.of(lambda t: ()) == {}

    @pytest.mark.parametrize("heat", ["sw_thermal_slowdown", "hw_thermal_slowdown"])
    def test_heat_that_the_cell_makes_is_its_own_outcome(self, heat: str) -> None:
        assert self.of(lambda t: (heat,) if t > 12 else ()) == {}

    @pytest.mark.parametrize("heat", ["sw_thermal_slowdown", "hw_thermal_slowdown"])
    def test_heat_that_was_there_before_is_not(self, heat: str) -> None:
        found = self.of(lambda t: (heat,) if t < 14.95 else (), before=(heat,))
        assert found == {f"gpu_{heat}": "50%"}

    def test_heat_that_was_gone_before_the_training_taints_nothing(self) -> None:
        heat = "sw_thermal_slowdown"
        assert self.of(lambda t: (heat,) if t < 9.5 else (), before=(heat,)) == {}

    def test_a_power_brake_taints_whatever_the_cell_does(self) -> None:
        brake = "hw_power_brake_slowdown"
        assert self.of(lambda t: (brake,) if t < 10.25 else ()) == {f"gpu_{brake}": "3.0%"}
        assert self.of(lambda t: (brake,) if t < 9.95 else ()) == {}

    def test_an_older_driver_tells_only_that_the_hardware_slowed_down(self) -> None:
        assert self.of(lambda t: ("hw_slowdown",) if t < 11.95 else ()) == {
            "gpu_hw_slowdown": "20%"
        }

    def test_with_its_reason_it_is_the_reason_that_counts(self) -> None:
        own_heat = ("hw_slowdown", "hw_thermal_slowdown")
        assert self.of(lambda t: own_heat) == {}
        brake = ("hw_slowdown", "hw_power_brake_slowdown")
        assert self.of(lambda t: brake) == {"gpu_hw_power_brake_slowdown": "100%"}

    def test_a_power_cap_at_the_default_limit_is_normal_operation(self) -> None:
        cap = lambda t: ("sw_power_cap",)  # noqa: E731
        assert self.of(cap) == {}
        assert self.of(cap, limits_w=(750.0, 700.0)) == {}  # raised
        assert self.of(cap, limits_w=(None, 700.0)) == {}
        assert self.of(cap, limits_w=(300.0, None)) == {}

    def test_a_power_cap_at_a_lowered_limit_is_somebodys_setting(self) -> None:
        def told(t: float) -> tuple[str, ...]:
            return ("sw_power_cap",) if t < 12.45 else ()

        assert self.of(told, limits_w=(699.999, 700.0)) == {"gpu_sw_power_cap": "25%"}
        assert self.of(lambda t: (), limits_w=(300.0, 700.0)) == {}  # and never reached

    def test_every_name_is_one_that_the_reader_gives(self) -> None:
        for name in SLOWDOWNS.values():
            causes = self.of(lambda t, name=name: (name,), (name,), limits_w=(1.0, 2.0))
            assert causes == {f"gpu_{name}": "100%"}

    def test_untold_is_unchecked(self) -> None:
        found = checks(gpu(slowdowns=lambda t: None))
        assert found["gpu_hw_power_brake_slowdown"][0] is None
        assert not any(held for held, _ in found.values())


class TestMemory:
    def of(self, nvml: float | None, reserved: float | None, allocated: float | None) -> list[str]:
        row = {
            "gpu_mem_nvml_peak_mib": nvml,
            "gpu_mem_reserved_peak_mib": reserved,
            "gpu_mem_allocated_peak_mib": allocated,
        }
        taint = judge(gpu(), TRAIN, row)
        held = [cause for cause in taint.causes if cause.held]
        assert {cause.name for cause in held} <= {"gpu_memory_inconsistent"}
        return [check.detail for check in held]

    def test_what_holds_together_is_clean(self) -> None:
        assert self.of(900.0, 400.0, 300.0) == []
        assert self.of(300.0, 300.0, 300.0) == []

    def test_what_does_not_is_told_with_its_figures(self) -> None:
        (detail,) = self.of(400.0, 900.0, 300.0)
        assert detail == "(gpu_mem_nvml_peak_mib 400 < gpu_mem_reserved_peak_mib 900)"
        (detail,) = self.of(900.0, 300.0, 400.0)
        assert detail == "(gpu_mem_reserved_peak_mib 300 < gpu_mem_allocated_peak_mib 400)"
        assert len(self.of(100.0, 300.0, 400.0)) == 2

    def test_up_to_rounding(self) -> None:
        assert self.of(400.0, 400.0 + ROUNDING_MIB, None) == []
        assert len(self.of(400.0, 400.001 + ROUNDING_MIB, None)) == 1

    def test_a_missing_figure_is_stepped_over(self) -> None:
        assert len(self.of(400.0, None, 900.0)) == 1
        assert self.of(None, None, 900.0) == []
        assert self.of(None, None, None) == []
        assert len(self.of(0.0, 900.0, 800.0)) == 1  # zero is a figure


class TestTheWhole:
    def test_nothing_checkable_is_neither_clean_nor_tainted(self) -> None:
        taint = judge(host(), TRAIN, {})
        assert (taint.tainted, taint.reasons) == (None, None)
        assert Taint(()).tainted is None

    def test_one_thing_known_is_enough_for_a_verdict_and_the_rest_is_named(self) -> None:
        taint = judge(host(steal_s=lambda t: 0.0), TRAIN, {})
        assert (taint.tainted, taint.reasons) == (False, None)
        assert names(taint.unchecked or "") == ["cpu_others", "cgroup_throttled", "swap"]

    def test_no_samples_were_asked_for(self) -> None:
        """--sample-ms 0: a real watch, which reads nothing and says so."""
        with Watch(("GPU-of-no-machine",), (0,), 0.0) as watch:
            watch.event({"stage": "data"})
        readings = watch.readings
        assert (readings.gpu, readings.host, readings.baseline) == ([], [], None)
        row = {"gpu_mem_reserved_peak_mib": 300.0, "gpu_mem_allocated_peak_mib": 200.0}
        taint = judge(readings, TRAIN, row)
        assert (taint.tainted, taint.reasons) == (None, None)
        assert {cause.detail for cause in taint.causes} == {"nothing was sampled"}

    def test_a_cell_that_never_trained_is_neither(self) -> None:
        readings = host(steal_s=lambda t: t, busy_s=lambda t: t, cell_cpu_s=lambda t: 0.0)
        assert judge(readings, Phases(), {}).tainted is None
        lost = gpu(lambda t: {FOREIGN: 1.0}, lambda t: ("hw_power_brake_slowdown",))
        assert judge(lost, Phases(), {}).tainted is None

    def test_drift_of_the_step_time_is_no_taint(self) -> None:
        taint = judge(host(steal_s=lambda t: 0.0), TRAIN, {"step_time_drift_pct": 80.0})
        assert taint.tainted is False

    def test_a_cell_without_a_gpu_has_no_checks_of_one(self) -> None:
        assert not any(cause.startswith("gpu") for cause in checks(host()))

    def test_a_gpu_of_which_nothing_is_told_is_unchecked_not_clean(self) -> None:
        found = checks(gpu())
        held = {held for cause, (held, _) in found.items() if cause.startswith("gpu")}
        assert held == {None}

    def test_two_causes_are_both_told(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0, FOREIGN: 1.0}, own=[OWN])
        readings.host = host(steal_s=lambda t: 0.5 * t, swapped_mib=lambda t: 1.0).host
        taint = judge(readings, TRAIN, {})
        assert taint.reasons == "cpu_steal 50%; swap 100%; gpu_foreign_process 100%"

    def test_reasons_and_what_is_unchecked_exclude_each_other(self) -> None:
        taint = Taint(
            (Cause("a", True, "3.1%"), Cause("b", None, "why"), Cause("c", False, "0.0%"))
        )
        assert (taint.reasons, taint.unchecked, taint.tainted) == ("a 3.1%", "b (why)", True)


class TestReadingsThatStop:
    """A GPU that is lost, or a host so busy that nobody read: what was not read is not clean."""

    def test_what_held_before_is_told(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0, FOREIGN: 1.0} if t < 15 else None, own=[OWN])
        assert checks(readings)["gpu_foreign_process"][0] is True

    def test_what_did_not_hold_before_is_unchecked(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0} if t < 15 else None, lambda t: (), own=[OWN])
        found = checks(readings)
        assert found["gpu_foreign_process"][0] is None
        assert found["gpu_hw_power_brake_slowdown"][0] is False

    def test_a_gap_within_is_the_same_as_an_end(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0} if not 14 < t < 16 else None, own=[OWN])
        assert checks(readings)["gpu_foreign_process"][0] is None

    def test_a_short_gap_is_none(self) -> None:
        readings = gpu(lambda t: {OWN: 1.0} if not 14 < t < 14.5 else None, own=[OWN])
        assert checks(readings)["gpu_foreign_process"][0] is False

    def test_counters_of_the_host(self) -> None:
        readings = host(steal_s=lambda t: 0.0)
        readings.host = [(at, sample) for at, sample in readings.host if not 12 <= at <= 18]
        assert checks(readings)["cpu_steal"][0] is None


def test_a_gpu_cell_of_which_nothing_is_read_names_its_own_causes() -> None:
    found = checks(Readings(0.0, 1, on_gpu=True))
    assert found["gpu_foreign_process"] == (None, "nothing was sampled")
    assert found["gpu_slowdown"] == (None, "nothing was sampled")


def test_a_cap_at_a_limit_that_is_not_told_is_unchecked() -> None:
    readings = gpu(slowdowns=lambda t: ("sw_power_cap",), limits_w=(500.0, None))
    assert checks(readings)["gpu_sw_power_cap"][0] is None


def test_heat_before_counts_also_under_its_other_name() -> None:
    idle = replace(GPU, slowdowns=("sw_thermal_slowdown",))
    readings = gpu(slowdowns=lambda t: ("hw_thermal_slowdown",), idle=idle)
    assert checks(readings)["gpu_hw_thermal_slowdown"][0] is True


def test_what_is_told_in_part_is_unchecked_for_that_reason() -> None:
    readings = host(steal_s=lambda t: 0.0 if t < 15 else None)
    readings.found = CellProcesses(OWN, own_cgroup=None)
    why = "the host does not tell it all through training"
    assert checks(readings)["cpu_steal"] == (None, why)
