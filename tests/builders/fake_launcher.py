"""A launcher that ends every cell at once, and a matrix with a results folder to run it on."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.launch.job import Environment, Exit, Job, Stop, Watcher
from bench.launch.reach import Reach
from bench.matrix.expansion import load_matrix
from bench.measure.gpus import Gpus
from bench.measure.machine import Machine, Room
from bench.records.cells import Cell
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, RunsTable
from bench.run.gpus import GpuRequest
from bench.run.progress import PlainDisplay
from bench.run.runner import Runner
from bench.run.standing import Policy

ROOM = Room(cpus=(0, 1, 2, 3), cores=4, memory_gib=16.0, free_gib=12.0)
NO_GPU = Gpus((), None, "NVML finds no NVIDIA driver")


class FakeLauncher:
    """Ends every cell at once, by default well; remembers what it was given."""

    runtime = "fake"

    def __init__(self) -> None:
        self.environment_id = "env-1"
        self.enforces_memory = True
        self.enforces_cpus = True
        self.jobs: list[Job] = []
        self.probed: list[str] = []  # UUIDs of GPUs
        self.found = Reach(None, "2.13.0+cu130", "13.0", "13.0")
        self.dead: dict[str, Reach] = {}  # what is found of these GPUs
        self.row: dict[str, Any] = {}
        self.code = 0
        self.reason = ""
        self.status: Callable[[Job], str] = lambda job: "ok"
        self.during: Callable[[Job, Stop], None] = lambda job, stop: None

    def environment(self, device: str) -> Environment:
        return Environment(self.environment_id)

    def reach(self, gpu_uuid: str, folder: Path | None = None) -> Reach:
        self.probed.append(gpu_uuid)
        return self.dead.get(gpu_uuid, self.found)

    def clean(self, folder: Path) -> int:
        return 0

    def run(self, job: Job, watcher: Watcher, stop: Stop) -> Exit:
        self.jobs.append(job)
        launched = time.monotonic()
        watcher.event({"stage": "train", "step": 3, "loss": 1.5})
        self.during(job, stop)
        ended_by = "interrupt" if stop.is_set else "itself"
        status = self.status(job)
        result = {
            "schema_version": SCHEMA_VERSION,
            "run_id": job.spec.run_id,
            "code_sha256": code_sha256(),
            "status": status,
            "reason": None if status == "ok" else self.reason or f"made {status}",
            "stage": None if status == "ok" else "train",
            "started": launched,
            "finished": time.monotonic(),
            "spans": [],
            "context_window": None,
            "row": {"val_loss_final": 1.25, "train_time_s": 0.5, "steps": 4} | self.row,
        }
        job.files.result.write_text(json.dumps(result))
        job.files.curve.write_text(
            "step,tokens,train_time_s,train_loss,val_loss\n0,0,0.0,2.5,2.5\n"
        )
        return Exit(ended_by, self.code, launched, time.monotonic(), stopped_why=stop.why)


@dataclasses.dataclass
class Bench:
    """A matrix, a results folder and a fake launcher, to run as often as a test likes."""

    matrix_file: Path
    folder: ResultsFolder
    launcher: FakeLauncher
    gpus: Gpus = NO_GPU
    display: PlainDisplay = dataclasses.field(
        default_factory=lambda: PlainDisplay(Console(quiet=True))
    )

    def cells(self) -> list[Cell]:
        matrix = load_matrix(self.matrix_file)
        corpus = matrix.find_corpus()
        assert corpus is not None
        return list(matrix.with_corpus(corpus.ref).cells)

    def run(
        self,
        jobs: int | None = 1,
        policy: Policy | None = None,
        request: GpuRequest | None = None,
    ) -> Runner:
        request = request or GpuRequest()
        machine = Machine("host-1", "a processor", ROOM, self.gpus, None, None)
        matrix = load_matrix(self.matrix_file)
        corpus = matrix.find_corpus()
        assert corpus is not None
        with self.folder.locked():
            runner = Runner(
                folder=self.folder,
                runs=self.folder.open_runs(),
                launcher=self.launcher,
                corpus=corpus,
                tokens=corpus.for_cells(),
                machine=request.on(machine),
                gpus=request,
                display=self.display,
                policy=policy or Policy(),
                name=matrix.name,
            )
            runner.run(self.cells(), jobs)
        return runner

    def rows(self) -> list[Row]:
        return RunsTable(self.folder.runs).rows

    def ran(self) -> list[tuple[str, int]]:
        jobs, self.launcher.jobs = self.launcher.jobs, []
        return [(job.spec.optimizer.name, job.spec.seed) for job in jobs]
