"""Cells from the command line on a GPU: they end well, and NVML agrees with nvidia-smi.

In the order of names this file comes before those that use the GPU in the tests' own process,
which would be another process on it.
"""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from subprocess import Popen

import pytest
import torch

from bench.records.rows import Row, read_table
from tests.builders.shared import bench
from tests.gpu.command_line import matrix, result, run
from tests.gpu.smi import Smi

COMPUTE = """
import torch
x = torch.rand(4096, 4096, device="cuda")
torch.cuda.synchronize()
print("here", flush=True)
while True:
    x = torch.nn.functional.normalize(x @ x)
"""


@pytest.fixture(scope="module")
def free_gpu(gpu: None) -> None:
    """A GPU that the tests' own process does not use."""
    assert not torch.cuda.is_initialized(), "these tests are to come first"


@pytest.fixture(scope="module")
def rows(free_gpu: None, tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """One seed of gpu.yaml: 300 steps of four arms."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    words = ("--runtime", "local", "--only", "seed=1", "--out", out)
    ran = bench("run", "bench/matrix/gpu.yaml", *words)
    assert ran.returncode == 0, ran.stdout
    return read_table(out / "runs.csv")


@pytest.mark.gpu
@pytest.mark.usefixtures("free_gpu")
def test_the_gpu_matrix_ends_well_and_its_memory_agrees_with_itself(rows):
    assert len(rows) == 4
    for row in rows:
        assert row["status"] == "ok"
        assert "gpu_foreign_process" not in row["taint_reasons"]
        for column in ("gpu_name", "gpu_uuid", "driver_version", "cuda_version", "init_hash"):
            assert row[column], column
        nvml, reserved, allocated = (
            float(row[f"gpu_mem_{name}_peak_mib"]) for name in ("nvml", "reserved", "allocated")
        )
        assert nvml >= reserved >= allocated > 0
        assert nvml >= float(row["gpu_mem_context_mib"]) > 0


@pytest.fixture
def neighbour() -> Iterator[None]:
    """Another process that computes on the GPU."""
    with Popen([sys.executable, "-c", COMPUTE], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"here\n"
        yield
        process.kill()


@pytest.mark.gpu
@pytest.mark.usefixtures("free_gpu", "neighbour")
def test_another_process_on_the_gpu_taints_the_row(tmp_path):
    row = run(matrix(tmp_path, "nanogpt+adamw", train="steps: 500"))
    assert row["tainted"] == "true"
    assert "gpu_foreign_process" in row["taint_reasons"]


@pytest.mark.gpu
@pytest.mark.usefixtures("free_gpu")
def test_more_than_the_gpus_memory_is_out_of_memory(tmp_path):
    """The first activations alone: 1,000,000 x 32 tokens of width 2,048 in float32, 244 GiB."""
    file = matrix(
        tmp_path,
        "wide+adamw",
        train="steps: 1, batch_size: 1000000",
        models="wide: {base: nanogpt, n_embd: 2048}",
        limits="memory_gib: 32",
    )
    row = run(file, exits=1)
    assert row["status"] == "oom"
    assert "memory" in row["reason"]


# --- NVML's columns beside nvidia-smi -----------------------------------------------------------

# Of 0.6 to 0.7 ms each on an H100: energy is told of a training phase of 10 s and more.
LONG = "steps: 20000, graph_steps: 100"


@pytest.mark.gpu
@pytest.mark.usefixtures("free_gpu")
def test_memory_and_power_are_those_that_nvidia_smi_tells(tmp_path):
    """The capture too is in a process in which nothing ran before."""
    file = matrix(tmp_path, "nanogpt+adamw", train=LONG, eval="every: 20000, train_windows: 10")
    with Smi() as smi:
        row = run(file)
    assert row["gpu_energy_j"], "training was too short for a figure: lengthen LONG"
    assert float(row["graph_steps_share"]) > 0.99
    assert float(row["gpu_mem_nvml_peak_mib"]) == pytest.approx(smi.peak_mib(), rel=0.02)
    spans = [span for span in result(file, row)["spans"] if span[0] == "train"]
    _, begin, end = max(spans, key=lambda span: span[2] - span[1])
    power_w = statistics.median(smi.powers_w(begin, end))
    assert float(row["gpu_power_mean_w"]) == pytest.approx(power_w, rel=0.05)
    energy_j = float(row["gpu_power_mean_w"]) * float(row["train_time_s"])
    assert float(row["gpu_energy_j"]) == pytest.approx(energy_j, rel=0.05)


SMI = """#!/bin/sh
echo '500, 90.5'
echo '700, 310.25'
while true; do echo '1500, 320.0'; sleep 0.02; done
"""


def test_readings_are_taken_while_the_block_runs(tmp_path, monkeypatch):
    """With a program in the place of nvidia-smi."""
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with Smi() as smi:
        while len(smi.readings) < 5:
            pass
    assert smi.process.returncode is not None
    assert smi.peak_mib() == 1000
    last = smi.readings[-1].time_s
    assert smi.powers_w(smi.readings[2].time_s - 1, last) == [320.0] * (len(smi.readings) - 2)
    assert smi.powers_w(last, last) == []
