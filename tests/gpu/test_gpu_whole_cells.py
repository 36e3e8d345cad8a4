"""Whole cells on a GPU: all end well, what NVML tells is what the driver's own program tells."""

import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from gpu import Arm, arm, losses, matrix, run

from bench.records.rows import Row, read_table
from tests.builders.shared import bench

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("gpu")]

TWENTY = "steps: 20, step_timing: every"

COMPUTE = """
import torch
x = torch.rand(4096, 4096, device="cuda")
torch.cuda.synchronize()
print("here", flush=True)
while True:
    x = torch.nn.functional.normalize(x @ x)
"""


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """One seed of gpu.yaml: 300 steps of four arms."""
    out = tmp_path_factory.mktemp("gpu") / "out"
    words = ("--runtime", "local", "--only", "seed=1", "--out", out)
    ran = bench("run", "bench/matrix/gpu.yaml", *words)
    assert ran.returncode == 0, ran.stdout
    return read_table(out / "runs.csv")


def test_the_gpu_matrix_ends_well_and_its_memory_agrees_with_itself(rows):
    assert len(rows) == 4
    for row in rows:
        assert row["status"] == "ok"
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


@pytest.mark.usefixtures("neighbour")
def test_another_process_on_the_gpu_taints_the_row(tmp_path):
    (row,) = run(matrix(tmp_path, "nanogpt+adamw", train="steps: 1000"))
    assert row["tainted"] == "true"
    assert "gpu_foreign_process" in row["taint_reasons"]


def test_more_than_the_gpus_memory_is_out_of_memory(tmp_path):
    """The first activations alone: 1,000,000 x 32 tokens of width 2,048 in float32, 244 GiB."""
    file = matrix(
        tmp_path,
        "wide+adamw",
        train="steps: 1, batch_size: 1000000",
        models="wide: {base: nanogpt, n_embd: 2048}",
        limits="memory_gib: 32",
    )
    (row,) = run(file, exits=1)
    assert row["status"] == "oom"
    assert "memory" in row["reason"]


@pytest.mark.parametrize("arms", ["nanogpt+adamw", "nanokimi+truemuon"])
def test_deterministic_cells_repeat_to_the_last_digit(tmp_path, arms):
    train = "steps: 200, deterministic: true, step_timing: every"
    files = [matrix(tmp_path, arms, train=train) for _ in range(2)]
    first, again = (losses(file, *run(file)) for file in files)
    assert len(first) == 200
    assert first == again


@pytest.fixture(scope="module")
def beginning(tmp_path_factory: pytest.TempPathFactory) -> dict[Arm, dict[int, float]]:
    """The first 20 losses of each arm, kernel by kernel."""
    file = matrix(tmp_path_factory.mktemp("beginning"), train=TWENTY, eval="every: 20")
    return {arm(row): losses(file, row) for row in run(file)}


def test_the_first_losses_are_those_of_the_cpu(tmp_path, beginning):
    file = matrix(tmp_path, device="cpu", train=TWENTY, eval="every: 20")
    rows = run(file)
    assert len(rows) == len(beginning) == 4
    for row in rows:
        assert len(beginning[arm(row)]) == 20
        assert beginning[arm(row)] == pytest.approx(losses(file, row), rel=1e-4), arm(row)


def test_steps_in_graphs_have_the_losses_of_steps_by_themselves(tmp_path, beginning):
    file = matrix(tmp_path, train=f"{TWENTY}, graph_steps: 4", eval="every: 20")
    rows = run(file)
    assert len(rows) == 4
    for row in rows:
        assert float(row["compile_time_s"]) > 0
        found = losses(file, row)
        assert list(found) == [3, 7, 11, 15, 19]  # the last step of each launch
        for step, loss in found.items():
            assert loss == pytest.approx(beginning[arm(row)][step], rel=1e-4), (arm(row), step)


@pytest.mark.parametrize("setting", ["dtype: bfloat16", "matmul_precision: tf32"])
def test_narrower_formats_train_nearly_as_well(tmp_path, rows, setting):
    expected = {arm(row): float(row["val_loss_final"]) for row in rows}
    file = matrix(tmp_path, train=f"steps: 300, {setting}", eval="every: 300")
    for row in run(file):
        loss = float(row["val_loss_final"])
        assert loss != expected[arm(row)]
        assert loss == pytest.approx(expected[arm(row)], abs=0.05), arm(row)


# --- NVML's columns beside nvidia-smi -----------------------------------------------------------

QUERY = "memory.used,power.draw.average"
LONG = "steps: 15000, batch_size: 64, block_size: 128"


class Smi:
    """nvidia-smi's own readings while a block runs: used memory in MiB, power in W."""

    def __init__(self, log: Path) -> None:
        self.log = log

    def __enter__(self) -> "Smi":
        self.before_mib = self._now()
        words = [f"--query-gpu={QUERY}", "--format=csv,noheader,nounits", "--loop-ms=100"]
        with self.log.open("w") as file:
            self.process = Popen(["nvidia-smi", *words], stdout=file)
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _now(self) -> float:
        words = ["nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
        return float(subprocess.check_output(words, text=True).split()[0])

    def readings(self) -> list[tuple[float, float]]:
        lines = self.log.read_text().splitlines()
        return [tuple(map(float, line.split(","))) for line in lines if line.count(",") == 1]


def test_memory_and_power_are_those_that_nvidia_smi_tells(tmp_path):
    """Memory of the whole device, less what was in use before; most readings are of training."""
    file = matrix(tmp_path, "nanogpt+adamw", train=LONG, eval="every: 1000000, train_windows: 10")
    with Smi(tmp_path / "smi.csv") as smi:
        (row,) = run(file)
    used_mib, power_w = zip(*smi.readings(), strict=True)
    trained_s = float(row["train_time_s"])
    assert trained_s >= 20, "too short beside its start: lengthen LONG"
    nvml_mib = float(row["gpu_mem_nvml_peak_mib"])
    assert nvml_mib == pytest.approx(max(used_mib) - smi.before_mib, rel=0.02)
    assert float(row["gpu_power_mean_w"]) == pytest.approx(statistics.median(power_w), rel=0.05)
    energy_j = float(row["gpu_energy_j"])
    assert energy_j == pytest.approx(float(row["gpu_power_mean_w"]) * trained_s, rel=0.05)
