"""Results with curves and raw files, of which every picture can be drawn."""

import math
from pathlib import Path

import numpy as np

from bench.measure import samples
from bench.measure.gpu_reader import GpuSample
from bench.measure.watch import GpuReading, Readings
from bench.records.rows import write_table
from tests.builders.results import Results

FACTORIAL = [(model, optimizer) for model in ("gpt", "kimi") for optimizer in ("adamw", "muon")]
SEEDS = (1, 2, 3, 4, 5)


def run(folder: Results, arms=FACTORIAL, seeds=SEEDS, device="cpu", evaluations=11, half=50):
    """Arms with curves; losses and times differ from arm to arm and vary from seed to seed."""
    for index, (model, optimizer) in enumerate(arms):
        for seed in seeds:
            run_id = folder.planned(model=model, optimizer=optimizer, seed=seed, device=device)
            loss = 1.8 - 0.02 * index + 0.004 * math.sin(7 * seed + index)
            time = 10.0 * (1 + index % 3) + 0.2 * math.sin(3 * seed + index)
            memory = 300.0 + 10 * index + math.sin(seed)
            folder.ended(
                run_id,
                val_loss_final=loss,
                train_time_s=time,
                host_rss_peak_mib=memory,
                gpu_mem_allocated_peak_mib=memory,
            )
            folder.curve(
                run_id,
                [
                    (
                        round(2 * half * share),
                        share * time,
                        loss + 2.5 * math.exp(-9 * share) + 0.01 * math.sin(40 * share + seed),
                    )
                    for share in np.linspace(0, 1, evaluations).tolist()
                ],
                expert_load_max=1.2 + 0.1 * index,
                router_entropy=1.3 - 0.01 * index,
            )
    return folder


def cell_folder(folder: Results, run_id: str, attempt=1) -> Path:
    path = folder.path / "cells" / f"{run_id}-{attempt}"
    path.mkdir(parents=True, exist_ok=True)
    return path


def step_file(folder: Results, run_id: str, times_ms, steps=1, attempt=1) -> Path:
    """steps.csv as a worker writes it: each sample spans `steps` steps of so many ms."""
    path = cell_folder(folder, run_id, attempt) / "steps.csv"
    rows = [
        {"step": (k + 1) * steps - 1, "steps": steps, "time_ms": time * steps, "loss": 2.0}
        for k, time in enumerate(times_ms)
    ]
    write_table(path, ("step", "steps", "time_ms", "loss"), rows)
    return path


def window_file(folder: Results, run_id: str, losses, split="val", attempt=1) -> Path:
    """A split's windows at the last evaluation, one a line."""
    path = cell_folder(folder, run_id, attempt) / f"{split}_windows.csv"
    write_table(path, ("windows", "loss"), [{"windows": 1, "loss": loss} for loss in losses])
    return path


def sample_file(folder: Results, run_id: str, watts, own=True) -> Path:
    """samples.csv by the sampler's own writer: a reading each half second."""
    path = cell_folder(folder, run_id) / "samples.csv"
    gpu = [
        (
            100 + 0.5 * k,
            GpuReading(
                (GpuSample(900.0, {7: 500.0}, None, None, watt, 50.0, 1500.0 + k, 60.0, ()),),
                frozenset({7} if own else ()),
            ),
        )
        for k, watt in enumerate(watts)
    ]
    readings = Readings(0.5, 1, on_gpu=True, gpu=gpu)
    write_table(path, samples.COLUMNS, samples.rows(readings, 100.0, [(100.0, 200.0)]))
    return path


def with_raw_files(folder: Results) -> Results:
    for index, row in enumerate(folder.plan):
        step_file(folder, row["run_id"], [5.0 + index, 6.0 + index, 40.0])
        sample_file(folder, row["run_id"], [100.0 + index, 120.0 + index, 110.0])
    return folder
