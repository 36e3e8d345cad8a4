"""Whole cells on a GPU that is none: `python -m bench run` over the NVML stub, all of it real but
the device.

A copy of the package runs, whose worker computes on the CPU and rewrites the stub's script as it
goes: it is listed once it has its context, as a driver would list it, and whatever a test says
happens at its moments. Training sleeps in each step, so the cells of all tests run side by side.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pynvml
import pytest

from bench.records.rows import read_table
from tests.builders.gpu_cell import (
    ALLOCATED_MIB,
    IDLE,
    OTHER,
    PROBE,
    RESERVED_MIB,
    STAND_IN,
    STEP_S,
    USUAL,
    Play,
    Ran,
    perform,
)
from tests.builders.nvml_stub import TWO_GPUS, NvmlStub, error
from tests.builders.shared import ROOT

pytest_plugins = "tests.builders.nvml_stub"
pytestmark = pytest.mark.slow

AT_ONCE = 4  # runs; each holds a runner and a worker in memory
LONG = round(12.5 / STEP_S)  # steps: over 10 s, as a figure of energy needs
UNSUPPORTED = dict.fromkeys(IDLE)
PLAYS = {
    "usual": Play(steps=LONG, sample_ms=100),
    # No energy counter; from the middle of training on, another process and more power.
    "foreign": Play(
        steps=LONG,
        sample_ms=100,
        idle=IDLE | {"energy_w": None},
        moments={
            "half": {
                "processes": "WORKER:900 4242:5000",
                "memory_used_mib": 6020,
                "power_instant_w": 300,
            }
        },
    ),
    # Neither counter nor instantaneous power; the board pulls the brake; a lowered power limit.
    "braked": Play(
        steps=LONG,
        sample_ms=100,
        idle=IDLE | {"energy_w": None, "power_instant_w": None, "power_limit_w": 500},
        moments={"half": {"event_reasons": 0x84}},
    ),
    "unlisted": Play(
        moments={
            "context": {"processes": "99999999:400"},
            "model": {"processes": "99999999:900"},
            "after": {"processes": "99999999:700"},
        }
    ),
    # Somebody else's process and heat, from before the launch; the worker is not listed either.
    "disturbed before": Play(
        gpus="0",
        idle=IDLE | {"processes": {4242: 90}, "event_reasons": 0x40},
        moments={
            "context": {"processes": "4242:90 99999999:400"},
            "model": {"processes": "4242:90 99999999:900"},
            "training": {"event_reasons": 0x48},
            "after": {"processes": "4242:90 99999999:700"},
        },
    ),
    "lost": Play(moments={"half": {"lost": 1}}),
    "unsupported": Play(
        idle=UNSUPPORTED,
        moments={moment: dict.fromkeys(shown) for moment, shown in USUAL.items()},
    ),
    # In MIG mode; whatever is asked of the instance, its driver answers with a figure.
    "instance": Play(
        whose="gpu0.mig0",
        steps=LONG,
        machine={f"gpu0.{key}": value for key, value in OTHER.items()}
        | {"gpu0.mig_mode": 1, "gpu0.mig0.uuid": "MIG-a0", "gpu0.mig0.name": "Stub GPU A MIG 1g"},
    ),
    "too small": Play(
        moments={
            "model": {"processes": "WORKER:550"},
            "after": {"processes": "WORKER:550"},
        }
    ),
    "not sampled": Play(sample_ms=0),
    "known": Play(machine={"gpu0.name": "NVIDIA H100 80GB HBM3"}),
    "mismatch": Play(machine={"init": error(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)}),
}


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package with the stand-in for a GPU in its worker."""
    folder = tmp_path_factory.mktemp("copy")
    for part in ("bench", "docker"):
        ignored = shutil.ignore_patterns("__pycache__", "wheels")
        shutil.copytree(ROOT / part, folder / part, ignore=ignored)
    with (folder / "bench" / "worker" / "cell.py").open("a") as file:
        file.write(STAND_IN)
    (folder / "bench" / "worker" / "gpu_probe.py").write_text(PROBE)
    return folder


@pytest.fixture(scope="module")
def runs(
    copy: Path, nvml_library: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ran]]]:
    """All plays, side by side, the long ones first."""
    stage = tmp_path_factory.mktemp("plays")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {
            name: pool.submit(perform, play, copy, nvml_library, stage / name)
            for name, play in PLAYS.items()
        }


@pytest.fixture
def ran(request: pytest.FixtureRequest, runs: dict[str, Future[Ran]]) -> Ran:
    """The play that a test is about."""
    return runs[request.param].result()


def about(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ran", names, indirect=True)


def gpu_causes(text: str) -> list[str]:
    """The names of what concerns the GPU in `taint_reasons` or `taint_unchecked`."""
    return re.findall(r"\bgpu_(?!mem_)\w+", text)


MEASURED = {
    *("gpu_mem_nvml_peak_mib", "gpu_mem_source", "gpu_mem_context_mib"),
    *("gpu_energy_j", "gpu_energy_source", "gpu_power_mean_w"),
    *("gpu_util_mean_pct", "gpu_temp_max_c", "gpu_slowdowns", "gpu_xids"),
    *("sm_clock_mean_mhz", "sm_clock_min_mhz", "sm_clock_max_mhz"),
    *("gpu_power_limit_w", "gpu_power_default_w", "gpu_app_clocks_set"),
}


@about("usual")
def test_every_column_says_what_the_gpu_showed(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (0, "ok"), ran.output
    measured = {name: ran.row[name] for name in MEASURED}
    for name in ("gpu_energy_j", "gpu_power_mean_w"):
        measured.pop(name)
    assert measured == {
        "gpu_mem_nvml_peak_mib": "900.0",
        "gpu_mem_source": "process",
        "gpu_mem_context_mib": "400.0",
        "gpu_energy_source": "energy_counter",
        "gpu_util_mean_pct": "80.0",
        "gpu_temp_max_c": "61.0",
        "sm_clock_mean_mhz": "1980.0",
        "sm_clock_min_mhz": "1980.0",
        "sm_clock_max_mhz": "1980.0",
        "gpu_power_limit_w": "700.0",
        "gpu_power_default_w": "700.0",
        "gpu_app_clocks_set": "false",
        "gpu_slowdowns": "sw_power_cap 100%",
        "gpu_xids": "none",
    }
    named = {name: ran.row[name] for name in ("gpu_name", "gpu_uuid", "driver_version")}
    assert named == {
        "gpu_name": "Stub GPU A",
        "gpu_uuid": "GPU-aaaa",
        "driver_version": "580.1",
    }
    assert ran.number("gpu_mem_allocated_peak_mib") == ALLOCATED_MIB
    assert ran.number("gpu_mem_reserved_peak_mib") == RESERVED_MIB


@about("known")
def test_a_known_gpu_tells_how_much_of_its_peak_was_used(ran: Ran) -> None:
    """Of float32 products, as the matrix leaves them."""
    assert (ran.row["status"], ran.number("peak_tflops")) == ("ok", 66.9)
    did_tflops = ran.number("flops_per_token") * ran.number("tokens_per_s") / 1e12
    assert ran.number("mfu_pct") == pytest.approx(100 * did_tflops / 66.9)


@about("usual", "instance")
def test_of_another_gpu_and_of_a_part_of_one_no_peak_is_guessed(ran: Ran) -> None:
    assert (ran.row["status"], ran.row["mfu_pct"], ran.row["peak_tflops"]) == ("ok", "", "")


@about("usual")
def test_energy_is_power_times_training_time(ran: Ran) -> None:
    seconds = ran.number("train_time_s")
    assert seconds >= 10
    assert ran.number("gpu_energy_j") == pytest.approx(250 * seconds, rel=0.02)
    assert ran.number("gpu_power_mean_w") == pytest.approx(250, rel=0.02)


@about("usual")
def test_what_a_cell_does_to_its_gpu_itself_is_no_taint(ran: Ran) -> None:
    """Its own process, a power cap at the default limit, a brake that was pulled afterwards."""
    assert gpu_causes(ran.row["taint_reasons"]) == []
    assert gpu_causes(ran.row["taint_unchecked"]) == []
    assert ran.row["tainted"] in ("true", "false")  # the machine's CPUs may be disturbed


@about("usual")
def test_samples_let_the_figures_be_retraced(ran: Ran) -> None:
    moments = [float(row["time_s"]) for row in ran.samples]
    assert moments == sorted(moments)
    assert moments[-1] >= ran.number("wall_time_s") - 0.001  # one after the end
    training = ran.training()
    assert len(training) >= 20
    own = {row["gpu_processes"] for row in training}
    assert len(own) == 1
    assert re.fullmatch(r"\d+\*:900", own.pop())
    assert {row["gpu_own_mib"] for row in training} == {"900.0"}
    assert {row["gpu_slowdowns"] for row in training} == {"sw_power_cap"}
    first, last = training[0], training[-1]
    grown_j = float(last["gpu_energy_j"]) - float(first["gpu_energy_j"])
    assert grown_j == pytest.approx(
        250 * (float(last["time_s"]) - float(first["time_s"])), rel=0.02
    )
    before = ran.env["launcher"]["gpu_before_launch"]
    assert before["sample"]["used_mib"] == 100
    assert before["sample"]["slowdowns"] == []
    assert before["settings"] == {
        "power_limit_w": 700,
        "power_default_w": 700,
        "app_clocks_set": False,
        "module_power_w": None,
    }
    assert ran.env["launcher"]["readings_of_gpu"] == sum(
        bool(row["gpu_used_mib"]) for row in ran.samples
    )
    assert ran.not_read == {}
    assert ran.env["worker"]["torch_version"] == ran.row["torch_version"]


@about("foreign")
def test_another_process_in_the_second_half_of_training(ran: Ran) -> None:
    assert (ran.row["status"], ran.row["tainted"]) == ("ok", "true")
    assert gpu_causes(ran.row["taint_reasons"]) == ["gpu_foreign_process"]
    assert ran.seen("gpu_foreign_process") == pytest.approx(ran.second_half(), abs=0.1)
    assert ran.second_half() == pytest.approx(0.5, abs=0.15)
    # Its memory is none of the cell's.
    assert ran.row["gpu_mem_source"] == "process"
    assert ran.number("gpu_mem_nvml_peak_mib") == 900
    foreign, own = sorted(ran.training()[-1]["gpu_processes"].split(), key=lambda one: "*" in one)
    assert foreign == "4242:5000"
    assert re.fullmatch(r"\d+\*:900", own)


@about("foreign")
def test_energy_without_a_counter_is_integrated_from_the_instantaneous_power(ran: Ran) -> None:
    assert ran.row["gpu_energy_source"] == "power_instant"
    power_w = 200 + 100 * ran.second_half()
    assert ran.number("gpu_power_mean_w") == pytest.approx(power_w, rel=0.02)
    energy_j = power_w * ran.number("train_time_s")
    assert ran.number("gpu_energy_j") == pytest.approx(energy_j, rel=0.02)
    assert list(ran.not_read) == ["gpu energy"]


@about("braked")
def test_energy_from_average_power_is_named_so(ran: Ran) -> None:
    assert ran.row["gpu_energy_source"] == "power_average"
    assert ran.number("gpu_power_mean_w") == pytest.approx(240, rel=0.02)
    assert set(ran.not_read) == {"gpu energy", "gpu power_instant"}


@about("braked")
def test_a_brake_and_a_lowered_power_limit_are_taint(ran: Ran) -> None:
    brake, cap = "gpu_hw_power_brake_slowdown", "gpu_sw_power_cap"
    assert ran.row["tainted"] == "true"
    assert gpu_causes(ran.row["taint_reasons"]) == [brake, cap]
    assert ran.seen(brake) == pytest.approx(ran.second_half(), abs=0.1)
    assert ran.seen(cap) == 1
    assert re.fullmatch(
        r"hw_power_brake_slowdown [\d.]+%; sw_power_cap 100%", ran.row["gpu_slowdowns"]
    )


@about("unlisted")
def test_a_worker_under_another_number_is_measured_by_the_device_and_never_called_foreign(
    ran: Ran,
) -> None:
    assert ran.row["status"] == "ok"
    assert ran.row["gpu_mem_source"] == "device_delta"
    assert ran.number("gpu_mem_nvml_peak_mib") == 1020 - 100
    assert ran.number("gpu_mem_context_mib") == 520 - 100
    assert gpu_causes(ran.row["taint_reasons"]) == []
    assert gpu_causes(ran.row["taint_unchecked"]) == ["gpu_foreign_process"]


@about("disturbed before")
def test_what_was_there_before_the_cell_is_foreign_and_so_is_its_heat(ran: Ran) -> None:
    assert ran.row["tainted"] == "true"
    causes = ["gpu_foreign_process", "gpu_hw_thermal_slowdown"]
    assert gpu_causes(ran.row["taint_reasons"]) == causes
    assert [ran.seen(cause) for cause in causes] == [1, 1]
    assert ran.row["gpu_slowdowns"] == "hw_slowdown 100%; hw_thermal_slowdown 100%"
    assert ran.row["gpu_mem_source"] == "device_delta"


@about("unlisted", "lost")
def test_a_short_training_has_no_figure_of_energy(ran: Ran) -> None:
    assert ran.number("train_time_s") < 10
    names = ("gpu_energy_j", "gpu_energy_source", "gpu_power_mean_w")
    assert [ran.row[name] for name in names] == ["", "", ""]


@about("lost")
def test_a_gpu_that_disappears_half_way_leaves_what_was_known(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (0, "ok"), ran.output
    assert ran.row["val_loss_final"] != ""
    assert ran.number("gpu_mem_nvml_peak_mib") == 900
    # Of a part of the training a mean would be none, and what was not seen is not clean.
    assert (ran.row["gpu_util_mean_pct"], ran.row["sm_clock_mean_mhz"]) == ("", "")
    assert "gpu_foreign_process" in gpu_causes(ran.row["taint_unchecked"])
    reason = ran.not_read["gpu device"]
    assert re.fullmatch(r"GPU is lost \(at [\d.]+ s of CLOCK_MONOTONIC\)", reason)
    assert ran.samples[-1]["gpu_used_mib"] == ""
    assert ran.samples[-1]["load"] != ""


@about("instance")
def test_an_instance_has_its_memory_and_no_figure_of_the_whole_gpu(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (0, "ok"), ran.output
    assert (ran.row["gpu_uuid"], ran.row["gpu_name"]) == ("MIG-a0", "Stub GPU A MIG 1g")
    told = {name: value for name in MEASURED if (value := ran.row[name])}
    assert told == {
        "gpu_mem_nvml_peak_mib": "900.0",
        "gpu_mem_source": "process",
        "gpu_mem_context_mib": "400.0",
    }
    unread = {"energy", "power_average", "power_instant", "utilisation", "sm_clock", "slowdowns"}
    for name in unread:
        assert ran.not_read[f"gpu {name}"].startswith("it is the whole GPU's, and this is an inst")


@about("unsupported")
def test_a_gpu_that_tells_nothing_leaves_fields_empty(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (0, "ok"), ran.output
    assert {ran.row[name] for name in MEASURED} == {""}
    assert ran.row["gpu_name"] == "Stub GPU A"
    assert gpu_causes(ran.row["taint_reasons"]) == []
    assert set(gpu_causes(ran.row["taint_unchecked"])) >= {
        "gpu_foreign_process",
        "gpu_hw_power_brake_slowdown",
    }
    assert set(ran.not_read) == {
        *("gpu memory", "gpu processes", "gpu energy", "gpu power_instant", "gpu power_average"),
        *("gpu utilisation", "gpu sm_clock", "gpu temperature", "gpu slowdowns"),
        *("gpu power_limit", "gpu power_default", "gpu app_clocks", "gpu xids"),
    }
    assert all(why.startswith("Not Supported (at ") for why in ran.not_read.values())


@about("too small")
def test_a_peak_below_what_torch_reserved_is_taint_with_both_figures(ran: Ran) -> None:
    assert (ran.row["status"], ran.row["tainted"]) == ("ok", "true")
    figures = "(gpu_mem_nvml_peak_mib 550 < gpu_mem_reserved_peak_mib 600)"
    assert f"gpu_memory_inconsistent {figures}" in ran.row["taint_reasons"]


@about("not sampled")
def test_without_samples_nothing_is_known_and_nothing_claimed(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (0, "ok"), ran.output
    assert {ran.row[name] for name in MEASURED | {"tainted", "taint_reasons"}} == {""}
    assert "nothing was sampled" in ran.row["taint_unchecked"]
    assert ran.number("gpu_mem_reserved_peak_mib") == RESERVED_MIB  # torch's own account
    assert ran.samples == []
    assert ran.not_read == {"samples": "not read: --sample-ms 0"}


@about("mismatch")
def test_a_driver_that_does_not_fit_skips_the_cell_with_its_reason(ran: Ran) -> None:
    assert (ran.code, ran.row["status"]) == (1, "skipped")
    assert "version mismatch" in ran.row["reason"]


@about(*[name for name in PLAYS if name != "mismatch"])
def test_nothing_of_the_other_gpu_is_seen(ran: Ran) -> None:
    values = {*ran.row.values(), *(value for row in ran.samples for value in row.values())}
    assert not values & {"9999", "9999.0", "1:9999", "Stub GPU B", "GPU-bbbb"}


# --- A program on two GPUs ----------------------------------------------------------------------

# A process on each; it says what it was given.
PROGRAM = """
import os, subprocess, sys, time
from pathlib import Path

script = Path(os.environ["SCRIPT"])
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
lines = [f"gpu0.processes {os.getpid()}:900", f"gpu1.processes {child.pid}:700"]
script.with_suffix(".new").write_text("\\n".join([*lines, script.read_text()]))
script.with_suffix(".new").replace(script)
for step in range(260):
    time.sleep(0.05)
    print(f"step {step} loss {4 - step / 100}", flush=True)
child.kill()
print("seen", os.environ["CUDA_VISIBLE_DEVICES"], "val 1.5", flush=True)
"""
OF_PROGRAM = """
name: two
program:
  path: ./train.py
  command: [python, train.py]
  environment: {{SCRIPT: "{script}"}}
  read: ['step (?P<step>\\d+) loss (?P<loss>\\S+)', 'val (?P<val_loss>\\S+)']
  gpus: 2
  seeds: replicates
matrix: {{model: [m], optimizer: [o], device: [cuda], seed: [1]}}
models: {{m: {{}}}}
optimizers: {{o: {{}}}}
"""


def test_a_program_with_two_gpus_has_one_row_of_both(
    copy: Path, nvml_library: Path, tmp_path: Path
) -> None:
    second = {**IDLE, "energy_w": 100, "sm_clock_mhz": 1900, "temperature_c": 50}
    stub = NvmlStub(nvml_library, tmp_path / "script")
    both = {f"gpu0.{key}": value for key, value in IDLE.items()}
    both |= {f"gpu1.{key}": value for key, value in second.items()}
    stub.write(TWO_GPUS | {"gpu1.name": "Stub GPU A"} | both)
    (tmp_path / "train.py").write_text(PROGRAM)
    matrix = tmp_path / "two.yaml"
    matrix.write_text(OF_PROGRAM.format(script=tmp_path / "script"))
    words = ("run", matrix, "--out", tmp_path / "out", "--runtime", "local")
    done = subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=copy,
        env=os.environ | stub.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    (row,) = read_table(tmp_path / "out" / "runs.csv")
    assert (done.returncode, row["status"]) == (0, "ok"), done.stdout + done.stderr + str(row)
    told = ("gpu_name", "gpu_uuid", "gpu_mem_nvml_peak_mib", "gpu_mem_source", "gpu_temp_max_c")
    assert [row[name] for name in told] == [
        *("2 x Stub GPU A", "GPU-aaaa GPU-bbbb", "1600.0", "process", "50.0")
    ]
    assert (row["sm_clock_min_mhz"], row["sm_clock_max_mhz"]) == ("300.0", "1900.0")
    assert float(row["gpu_power_mean_w"]) == pytest.approx(350, rel=0.02)
    assert "foreign" not in row["taint_reasons"]
    cell = tmp_path / "out" / "cells" / f"{row['run_id']}-1"
    assert "seen GPU-aaaa,GPU-bbbb" in (cell / "worker.log").read_text()
    assert {sample["gpu"] for sample in read_table(cell / "samples.csv")} == {"0", "1", ""}
