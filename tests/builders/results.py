"""Results folders for the tests of the report, written as a run writes them."""

import datetime
import math
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

from bench.merge.merging import merge
from bench.merge.sections import Section, make_sections
from bench.records.columns import RUN_COLUMNS
from bench.records.rows import write_table
from bench.records.tables import CURVE_COLUMNS, PLAN_COLUMNS

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
LATER = {"started_at": "2026-02-01T00:00:00+00:00"}  # than all rows that say nothing else
TENTHS = range(0, 101, 10)


@dataclass
class Results:
    """A results folder in the making."""

    path: Path
    plan: list[dict[str, object]] = field(default_factory=list)
    runs: list[dict[str, object]] = field(default_factory=list)
    curves: list[dict[str, object]] = field(default_factory=list)

    def planned(self, model="gpt", optimizer="adamw", seed=1, device="cpu", selected=True, arm=""):
        """One planned cell; its run_id."""
        arm = arm or f"{model}/{optimizer}/{device}"
        row = {"run_id": f"{arm}#{seed}", "arm_id": arm, "name": "tiny", "model": model}
        row |= {"optimizer": optimizer, "device": device, "seed": seed, "selected": selected}
        self.plan.append(row)
        return row["run_id"]

    def ended(self, run_id: str, status="ok", attempt=1, **fields):
        """One attempt at a planned cell; an ok one with all its figures."""
        planned = next(row for row in self.plan if row["run_id"] == run_id)
        row = {name: value for name, value in planned.items() if name in RUN_COLUMNS}
        row |= {"host_id": "host1", "attempt": attempt, "status": status, "schema_version": 1}
        row |= {"runtime": "local", "env_id": "local:env1", "code_sha256": "code1"}
        row |= {"host_cpu_model": "A processor", "corpus": "text", "corpus_sha256": "text1"}
        row |= {"eval_protocol": "full", "log_path": f"cells/{attempt}/worker.log"}
        # A moment of its own in each folder: that tells a repeat from a copy.
        moment = datetime.timedelta(
            minutes=len(self.runs), microseconds=crc32(self.path.name.encode())
        )
        row |= {"started_at": (START + moment).isoformat()}
        if status == "ok":
            row |= {"steps": 100, "tokens": 1000, "threads": 1, "n_params": 2_000_000}
            row |= {"flops_per_token": 10, "optimizer_flops_per_step": 100}
            row |= {"val_loss_final": 2.0, "train_time_s": 5.0, "infer_time_ms_p50": 1.5}
            row |= {"host_rss_peak_mib": 300.0, "perplexity": 7.389, "torch_version": "2.0"}
            row |= {"data_order_hash": f"d{planned['seed']}", "init_hash": f"i{planned['seed']}"}
        self.runs.append(row | fields)

    def cell(self, seed=1, status="ok", attempt=1, **fields):
        """A planned cell of the first arm and its only attempt."""
        self.ended(self.planned(seed=seed), status, attempt, **fields)

    def curve(self, run_id: str, points: list[tuple[int, float, float]], attempt=1, **figures):
        """(step, seconds, loss) of each evaluation; further figures the same at all of them."""
        for step, time, loss in points:
            row = {"run_id": run_id, "host_id": "host1", "attempt": attempt, "step": step}
            row |= {"tokens": step * 10, "train_time_s": time, "val_loss": loss}
            self.curves.append(row | figures)

    def write(self) -> Path:
        self.path.mkdir(exist_ok=True)
        write_table(self.path / "plan.csv", PLAN_COLUMNS, self.plan)
        write_table(self.path / "runs.csv", RUN_COLUMNS, self.runs)
        write_table(self.path / "curves.csv", CURVE_COLUMNS, self.curves)
        return self.path


def sections_of(*folders: Results) -> list[Section]:
    return make_sections(merge([folder.write() for folder in folders]))


def two_arms(folder: Results, seeds=(1, 2), **fields) -> Results:
    """Two arms with curves, all ok."""
    for index, optimizer in enumerate(("adamw", "muon")):
        for seed in seeds:
            run_id = folder.planned(optimizer=optimizer, seed=seed)
            loss = 2.0 - 0.25 * index + 0.01 * seed
            folder.ended(run_id, val_loss_final=loss, **fields)
            points = [(s, s * 0.05 * (1 + index), loss + 2.5 * math.exp(-s / 15)) for s in TENTHS]
            folder.curve(run_id, points)
    return folder
