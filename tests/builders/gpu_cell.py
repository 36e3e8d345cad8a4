"""A whole cell on a GPU that is none: the worker's stand-in, what its GPU shows, what is left."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.records.rows import Row, read_table
from tests.builders.nvml_stub import GPU_KEYS, TWO_GPUS, NvmlStub, Reading
from tests.builders.shared import TINY

STEP_S = 0.05
ALLOCATED_MIB, RESERVED_MIB = 500.0, 600.0  # torch's peaks, as the stand-in tells them

STAND_IN = f"""

# --- appended by a test: a GPU that is none ---

import json, os, sys, time
from pathlib import Path

import torch

from bench.border.atomic import write_atomically

STAGE = Path(sys.argv[1]).parents[2]  # of the results folder: what lies beside it
PLAY = json.loads((STAGE / "play.json").read_text())  # moment -> readings from then on


def show(moment):
    script = STAGE / "script"
    readings = dict(line.split(" ", 1) for line in script.read_text().splitlines())
    readings |= PLAY.get(moment, {{}})
    lines = [f"{{key}} {{value}}\\n" for key, value in readings.items() if value is not None]
    write_atomically(script, "".join(lines).replace("WORKER", str(os.getpid())))


def open_device(cell):
    with cell.clock.during("build"):
        show("context")
    return torch.device("cpu")


def read_slowly(*arguments, read=read_corpus):
    time.sleep(0.3)  # as long as the samplers need for a look at the context
    return read(*arguments)


def read(cell, corpus, device, read=CellRun._read):
    ready = time.monotonic()
    found = read(cell, corpus, device)
    cell.context_window = (ready, time.monotonic())
    show("model")
    return found


def run(trainer, *arguments, run=Trainer.run):
    show("training")
    run(trainer, *arguments)
    show("after")


def step(trainer, positions, step=Trainer.step):
    if 0 < trainer.done == len(trainer.positions) // 2:
        show("half")
    time.sleep({STEP_S})
    return step(trainer, positions)


def gpu_peaks_mib(device):
    return {{
        "gpu_mem_allocated_peak_mib": {ALLOCATED_MIB},
        "gpu_mem_reserved_peak_mib": {RESERVED_MIB},
    }}


read_corpus = read_slowly
CellRun._open_device, CellRun._read = open_device, read
Trainer.run, Trainer.step = run, step
"""

# In place of the program that tries a GPU out.
PROBE = """
import json
from bench.border.surroundings import PROBE_ANSWER
reached = {"torch": "2.13.0", "built_for": "13.0", "driver_cuda": "13.0", "error": None}
print(PROBE_ANSWER + json.dumps(reached))
"""

IDLE: dict[str, Reading] = {
    "memory_used_mib": 100,
    "memory_total_mib": 16000,
    "processes": {},
    "power_w": 240,
    "power_instant_w": 200,
    "energy_w": 250,
    "power_limit_w": 700,
    "power_default_limit_w": 700,
    "utilisation_pct": 0,
    "sm_clock_mhz": 300,
    "temperature_c": 40,
    "event_reasons": 0x1,
    "app_clock_mhz": 1980,
    "app_clock_default_mhz": 1980,
    "xids": "",
}
Moments = Mapping[str, Mapping[str, str | float | None]]
# What a GPU shows of an ordinary cell. WORKER is its process.
USUAL: Moments = {
    "context": {"processes": "WORKER:400", "memory_used_mib": 520},
    "model": {"processes": "WORKER:900", "memory_used_mib": 1020},
    "training": {
        "utilisation_pct": 80,
        "sm_clock_mhz": 1980,
        "temperature_c": 61,
        "event_reasons": 0x4,
    },
    "after": {
        "processes": "WORKER:700",
        "memory_used_mib": 820,
        "utilisation_pct": 10,
        "sm_clock_mhz": 1200,
        "temperature_c": 55,
        "event_reasons": 0x80,
    },
}
# The machine's other GPU: nothing of it may be seen.
OTHER: dict[str, Reading] = dict.fromkeys(IDLE, 9999) | {"processes": {1: 9999}}


@dataclass(frozen=True)
class Play:
    """A cell, and what its GPU shows."""

    steps: int = 30
    idle: Mapping[str, Reading] = field(default_factory=lambda: IDLE)  # before the launch
    moments: Moments = field(default_factory=dict)  # beside the usual ones
    sample_ms: float = 20
    machine: Mapping[str, Reading] = field(default_factory=dict)
    gpus: str = "idle"  # of which there is one, unless `idle` above has processes
    whose: str = "gpu0"  # what shows all this; or an instance of it (MIG)

    def script(self) -> dict[str, Reading]:
        ours = {f"{self.whose}.{key}": value for key, value in self.idle.items()}
        others = {f"gpu1.{key}": value for key, value in OTHER.items()}
        return {**TWO_GPUS, **others, **ours, **self.machine}

    def play(self) -> str:
        named = {
            moment: USUAL.get(moment, {}) | self.moments.get(moment, {})
            for moment in (*USUAL, "half")
        }
        assert {key for shown in named.values() for key in shown} <= GPU_KEYS
        prefixed = {
            moment: {f"{self.whose}.{key}": value for key, value in shown.items()}
            for moment, shown in named.items()
        }
        return json.dumps(prefixed)


MATRIX = TINY.replace("[adamw, truemuon]", "[adamw]").replace("[1, 2]", "[1]")
MATRIX = MATRIX.replace("[cpu]", "[cuda]").replace("every: 2", "every: 1000")


@dataclass(frozen=True)
class Ran:
    """What a run left behind."""

    code: int
    output: str
    row: Row
    samples: list[Row]
    env: dict[str, Any]
    steps: list[Row]

    @property
    def not_read(self) -> dict[str, str]:
        return self.env["launcher"]["not_read"]

    def number(self, column: str) -> float:
        return float(self.row[column])

    def training(self) -> list[Row]:
        return [row for row in self.samples if row["training"] == "true" and row["gpu_used_mib"]]

    def second_half(self) -> float:
        """Its share of the training time, by the steps' own times."""
        times = [float(row["time_ms"]) for row in self.steps]
        return sum(times[len(times) // 2 :]) / sum(times)

    def seen(self, cause: str) -> float:
        """The share that a taint's reason tells, 0 to 1."""
        found = re.search(rf"{cause} ([\d.]+)%", self.row["taint_reasons"])
        assert found, self.row["taint_reasons"]
        return float(found[1]) / 100


def perform(play: Play, copy: Path, library: Path, folder: Path) -> Ran:
    folder.mkdir()
    corpus = folder / "text.txt"
    corpus.write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    matrix = folder / "matrix.yaml"
    text = MATRIX.replace("steps: 4", f"steps: {play.steps}")
    matrix.write_text(f"{text}data: {{corpus: {corpus}}}\n")
    stub = NvmlStub(library, folder / "script")
    stub.write(play.script())
    (folder / "play.json").write_text(play.play())
    results = folder / "results"
    arguments = ["run", matrix, "--out", results, "--runtime", "local", "--gpus", play.gpus]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *arguments, "--sample-ms", str(play.sample_ms)],
        cwd=copy,
        env=os.environ | stub.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    output = done.stdout + done.stderr
    rows = read_table(results / "runs.csv")
    assert len(rows) == 1, output
    cell = results / "cells" / f"{rows[0]['run_id']}-1"
    if not cell.exists():
        return Ran(done.returncode, output, rows[0], [], {}, [])
    tables = {name: read_table(cell / f"{name}.csv") for name in ("samples", "steps")}
    env = json.loads((cell / "env.json").read_text())
    return Ran(done.returncode, output, rows[0], env=env, **tables)
