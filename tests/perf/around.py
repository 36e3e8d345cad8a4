"""What surrounds training: the start of a cell, its memory, and commands on 1,000 cells.

A cell starts beside the same interpreter in the same place that only imports torch, and its memory
is compared with that of one that also holds what no cell can do without. The commands' seconds are
those of this machine, and tell little about another.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench.records.folder import ResultsFolder
from tests.perf.place import Event, Place
from tests.perf.rows import Row, interleaved, ratios
from tests.perf.settled import write_matrix, write_settled

ARMS = [(model, opt) for model in ("nanogpt", "nanokimi") for opt in ("adamw", "truemuon")]
START_ROUNDS = 7
COMMAND_ROUNDS = 7
MEMORY_ROUNDS = 2
CELLS = 1_000

MATRIX = """\
name: around
data: {corpus: pydoc}
train: {steps: STEPS}
eval: {every: 1000000, EVAL}
matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], seed: [1]}
"""

IMPORT_TORCH = "import torch; print('{}', flush=True)"

# Beside torch: parameters, optimizer state and the corpus, as plain tensors.
HOLD = """
import torch
held = torch.ones({n_params}), torch.ones({state_numbers}), torch.ones({n_chars}, dtype=torch.int32)
with open("/proc/self/status") as status:
    peak_kib = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
print('{{"peak_mib": %f}}' % (peak_kib / 1024), flush=True)
"""


def rows(runtime: str) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-perf-around-") as folder:
        return [
            *start_rows(runtime, Path(folder) / "start"),
            *memory_rows(runtime, Path(folder) / "memory"),
            *command_rows(runtime, Path(folder)),
        ]


def start_rows(runtime: str, folder: Path) -> list[Row]:
    """From the launch to the first step; the evaluation before it is of two batches."""
    matrix = MATRIX.replace("STEPS", "10000").replace("EVAL", "protocol: sampled, batches: 1")
    place = Place(runtime, folder, matrix)
    arms = [ARMS[0], ARMS[-1]]  # the least work to start, and the most
    measures = [
        lambda: place.python(place.job(*ARMS[0]), IMPORT_TORCH)[0],
        *(lambda arm=arm: place.cell_until(place.job(*arm), _first_step) for arm in arms),
    ]
    reference, *cells = interleaved(measures, START_ROUNDS)
    return [
        Row(
            f"start of a cell, {' + '.join(arm)}, over importing torch",
            ratios(cell, reference),
            at_most=1.3,
        )
        for arm, cell in zip(arms, cells, strict=True)
    ]


def _first_step(event: Event) -> bool:
    """The evaluation at step 0 is over."""
    return event.get("stage") == "eval" and event.get("step") == 0


def memory_rows(runtime: str, folder: Path) -> list[Row]:
    """Peaks of whole cells, with their full evaluations."""
    matrix = MATRIX.replace("STEPS", "20").replace("EVAL", "protocol: full")
    place = Place(runtime, folder, matrix)
    found = [(arm, [_memory(place, *arm) for _ in range(MEMORY_ROUNDS)]) for arm in ARMS]
    return [
        Row(
            f"memory of a cell, {' + '.join(arm)}, over holding as much",
            tuple(values),
            at_most=1.25,
        )
        for arm, values in found
    ]


def _memory(place: Place, model: str, optimizer: str) -> float:
    row = place.cell_row(place.job(model, optimizer))
    code = HOLD.format(
        n_params=row["n_params"],
        state_numbers=int(row["optimizer_state_mib"] * 2**20 / 4),
        n_chars=place.corpus.n_chars,
    )
    held = place.python(place.job(model, optimizer), code)[1]
    ratio: float = row["host_rss_peak_mib"] / held["peak_mib"]
    return ratio


def command_rows(runtime: str, folder: Path) -> list[Row]:
    matrix, results = folder / "many.yaml", ResultsFolder(folder / "many")
    write_matrix(matrix, CELLS)
    write_settled(results, matrix, runtime)
    here = (str(matrix), "--out", str(results.path), "--runtime", runtime)
    commands = {
        "bench --help": (("--help",), 0.7),
        f"bench plan, {CELLS:,} cells": (("plan", *here), 0.7),
        f"bench run, {CELLS:,} cells, all settled": (("run", *here), 1.5),
    }
    times = interleaved(
        [lambda words=words: _seconds(*words) for words, _ in commands.values()], COMMAND_ROUNDS
    )
    return [
        Row(what, values, at_most=at_most, unit="s")
        for (what, (_, at_most)), values in zip(commands.items(), times, strict=True)
    ]


def _seconds(*words: str) -> float:
    begin = time.monotonic()
    subprocess.run([sys.executable, "-m", "bench", *words], check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - begin
