"""The original's whole job compiled, with a warm cache, beside the same not compiled.

Short cells in turn, each with its start: the job's 10,000 steps and 101 evaluations are composed
of what they take, a token of an evaluation on tinyshakespeare as on their own text. The first
compiled one finds nothing compiled, and tells what that takes once.
"""

import tempfile
from pathlib import Path
from typing import Any

from bench.records.compiled import CompiledCode
from tests.perf.place import Place
from tests.perf.rows import Row, interleaved, ratios
from tests.perf.training import EVALUATIONS, STEPS, our_tokens

ROUNDS = 5
SHORT = 300  # steps of a cell, with an evaluation before and one after them
ARMS = [("nanogpt", "adamw"), ("nanokimi", "truemuon")]

MATRIX = """\
name: compiled
data: {corpus: pydoc}
train: {steps: SHORT, compile: COMPILE}
eval: {every: SHORT}
matrix: {model: [nanogpt, nanokimi], optimizer: [adamw, truemuon], device: [cpu], seed: [1]}
"""


def rows(runtime: str, rounds: int = ROUNDS, steps: int = SHORT) -> list[Row]:
    with tempfile.TemporaryDirectory(prefix="bench-perf-compiled-") as folder:
        text = MATRIX.replace("SHORT", str(steps))
        plain, compiled = (
            Place(runtime, Path(folder) / value, text.replace("COMPILE", value))
            for value in ("false", "true")
        )
        kept = CompiledCode(Path(folder) / "kept" / "all")
        return [row for arm in ARMS for row in _rows_of(arm, plain, compiled, kept, rounds)]


def _rows_of(
    arm: tuple[str, str], plain: Place, compiled: Place, kept: CompiledCode, rounds: int
) -> list[Row]:
    cold, warm = _compiled_cell(compiled, arm, kept), []

    def warm_job_s() -> float:
        warm.append(_compiled_cell(compiled, arm, kept))
        assert warm[-1]["compile_cache"] == "warm"
        return job_s(warm[-1])

    measures = [lambda: job_s(plain.cell_row(plain.job(*arm))), warm_job_s]
    without, with_ = interleaved(measures, rounds)
    name = " + ".join(arm)
    return [
        Row(f"whole job, {name}, not compiled over compiled, warm", ratios(without, with_)),
        Row(f"compiling {name}, cold", (cold["compile_time_s"],), unit="s"),
        Row(f"compiling {name}, warm", tuple(row["compile_time_s"] for row in warm), unit="s"),
    ]


def _compiled_cell(place: Place, arm: tuple[str, str], kept: CompiledCode) -> dict[str, Any]:
    job = place.job(*arm)
    kept.copy_to(job.files.compiled)
    row = place.cell_row(job)
    kept.keep(job.files.compiled)
    return row


def job_s(row: dict[str, Any]) -> float:
    """Of the whole job, from the import of torch to the last evaluation."""
    phases = ("import", "data", "build", "compile", "warmup")
    start_s = sum(row.get(f"{phase}_time_s", 0.0) for phase in phases)
    step_s, token_s = (
        row["train_time_s"] / row["steps"],
        row["eval_time_s"] / 2 / our_tokens("pydoc"),
    )
    return float(start_s + STEPS * step_s + EVALUATIONS * our_tokens() * token_s)
