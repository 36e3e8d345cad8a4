"""The one loop: pass over what is settled, launch what is open, commit a row as each cell ends."""

import contextlib
import signal
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.attempt import Attempt, run_attempt
from bench.columns import SETTLED
from bench.corpora import Corpus, check_tokens
from bench.errors import BenchError, RequestError
from bench.estimate import estimate_arms
from bench.folder import ResultsFolder
from bench.identity import SCHEMA_VERSION, code_sha256
from bench.launch.job import Environment, Job, Launcher, Stop
from bench.matrix import Cell
from bench.measure.gpus import Gpu
from bench.measure.machine import Machine
from bench.measure.watch import SAMPLE_MS
from bench.outcome import is_number
from bench.progress import Display
from bench.records import Row, RunsTable, terminal
from bench.signals import heard

SIGNAL_S = 1.0  # the longest that Ctrl-C may go unnoticed


@dataclass(frozen=True)
class Policy:
    """Which earlier rows make a cell settled."""

    retry_failed: bool = False
    accepted_code: frozenset[str] = frozenset()  # further code_sha256 that count as today's

    def settles(self, row: Row, environment: Environment, machine: Machine) -> bool:
        final = ("ok",) if self.retry_failed else SETTLED
        return (
            row["status"] in final
            and row["code_sha256"] in {code_sha256(), *self.accepted_code}
            and row["env_id"] == environment.env_id
            and row["host_id"] == machine.host_id
            and (row["device"] != "cuda" or row["gpu_name"] in machine.gpus.names)
        )


@dataclass(frozen=True)
class Slot:
    """A place where one cell at a time runs, with CPUs (and a GPU) of its own."""

    cpus: tuple[int, ...]
    gpu: Gpu | None


def make_slots(jobs: int, cpus_per_cell: int, needs_gpu: bool, machine: Machine) -> list[Slot]:
    """Disjoint CPUs for each of `jobs` cells at once, and a GPU each where cells need one.

    Raises:
        RequestError: if the machine has not enough of either.
    """
    wanted, gpus = jobs * cpus_per_cell, machine.gpus.gpus
    if wanted > len(machine.cpus):
        raise RequestError(
            f"--jobs {jobs} with limits.cpus {cpus_per_cell} needs {wanted} CPUs; this process "
            f"may use {len(machine.cpus)}. Lower --jobs, limits.cpus or train.threads."
        )
    if needs_gpu and jobs > len(gpus):
        raise RequestError(
            f"{jobs} cuda cells at once need as many GPUs; here are {len(gpus)}. Lower --jobs."
        )
    cpus = [machine.cpus[i * cpus_per_cell : (i + 1) * cpus_per_cell] for i in range(jobs)]
    return [Slot(cpus[i], gpus[i] if i < len(gpus) else None) for i in range(jobs)]


def skip_reason(cell: Cell, machine: Machine) -> str | None:
    """Why this machine cannot run a cell at all, with the remedy; None if it can."""
    if cell.spec.device == "cuda" and not machine.gpus.gpus:
        return (
            f"no GPU here: {machine.gpus.reason}. Run it where nvidia-smi lists one, "
            "or choose --only device=cpu"
        )
    return None


@dataclass
class Runner:
    """Runs cells of one matrix into one locked results folder."""

    folder: ResultsFolder
    runs: RunsTable
    launcher: Launcher
    corpus: Corpus
    tokens_file: Path  # of the corpus
    machine: Machine
    display: Display
    policy: Policy
    name: str  # the matrix's
    sample_ms: float = SAMPLE_MS  # between two readings of the GPU; 0: nothing is read
    stop: Stop = field(default_factory=Stop)

    def run(self, cells: Sequence[Cell], jobs: int) -> None:
        """Bring every cell to a terminal row, unless `stop` is set first.

        Raises:
            MissingError, RequestError: before anything runs.
            CorpusError, EngineError, FolderError, RecordError: when a launch or a commit fails;
                cells not run stay open.
        """
        skipped = {cell: why for cell in cells if (why := self._skip_reason(cell))}
        runnable = [cell for cell in cells if not skip_reason(cell, self.machine)]
        devices = {cell.spec.device for cell in runnable}
        environments = {device: self.launcher.environment(device) for device in devices}
        still_open = [
            cell for cell in runnable if not self.settled(cell, environments[cell.spec.device])
        ]
        slots = make_slots(
            jobs,
            max((cell.limits.cpus or 1 for cell in still_open), default=1),
            any(cell.spec.device == "cuda" for cell in still_open),
            self.machine,
        )
        try:
            left_s = self._time_left_s(still_open, len(slots))
            with self.display.open([*skipped, *still_open], left_s), _on_signal(self.stop):
                for cell, why in skipped.items():
                    self._skip(cell, why)
                self._run_open(still_open, slots, environments)
        except BaseException:
            with contextlib.suppress(BenchError):  # the first error is the one to tell
                self.folder.rebuild_curves(self.runs)
            raise
        if still_open or not self.folder.curves_are_current(self.runs):
            self.folder.rebuild_curves(self.runs)

    def settled(self, cell: Cell, environment: Environment) -> bool:
        rows = self.runs.of(cell.spec.run_id)
        return any(self.policy.settles(row, environment, self.machine) for row in rows)

    def _skip_reason(self, cell: Cell) -> str | None:
        """Why a cell is to be skipped; a machine without its GPU does not unsettle it."""
        last = terminal(self.runs.of(cell.spec.run_id))
        settled = last is not None and last["status"] in SETTLED
        return None if settled else skip_reason(cell, self.machine)

    def _skip(self, cell: Cell, why: str) -> None:
        """A row that says why; not a second one with the same reason."""
        rows = self.runs.of(cell.spec.run_id)
        if not rows or (rows[-1]["status"], rows[-1]["reason"]) != ("skipped", why):
            attempt = self.folder.next_attempt(cell, rows)
            row = self._identity(cell, attempt, Environment(env_id=""))
            self.runs.append({**row, "status": "skipped", "reason": why})
        self.display.ended(cell, {"status": "skipped", "reason": why}, None)

    def _run_open(
        self, cells: Sequence[Cell], slots: list[Slot], environments: Mapping[str, Environment]
    ) -> None:
        waiting = list(cells)
        failure: Exception | None = None
        running: dict[Future[Attempt], tuple[Cell, Slot]] = {}
        retried: Counter[Cell] = Counter()
        with ThreadPoolExecutor(len(slots)) as pool:
            while True:
                while slots and waiting and not self.stop.is_set:
                    cell, slot = waiting.pop(0), slots.pop(0)
                    environment = environments[cell.spec.device]
                    future = pool.submit(self._run_cell, cell, slot, environment)
                    running[future] = cell, slot
                if not running:
                    break
                # A signal that comes just before a wait without end would not be seen in it.
                for future in wait(running, SIGNAL_S, FIRST_COMPLETED).done:
                    cell, slot = running.pop(future)
                    slots.append(slot)
                    try:
                        attempt = future.result()
                        self.runs.append(attempt.columns)
                    except Exception as error:
                        failure = failure or error
                        self.stop.set("stopped because another cell's launch or record failed")
                        continue
                    if attempt.fault_of_machine and retried[cell] < cell.limits.retries:
                        retried[cell] += 1
                        waiting.insert(0, cell)
                        self.display.again(cell, attempt.columns)
                        continue
                    left = [*waiting, *(other for other, _ in running.values())]
                    left_s = self._time_left_s(left, len(slots) + len(running))
                    self.display.ended(cell, attempt.columns, left_s)
        if failure is not None:
            raise failure

    def _run_cell(self, cell: Cell, slot: Slot, environment: Environment) -> Attempt:
        """One attempt, in a thread of its own."""
        check_tokens(self.tokens_file, self.corpus.name)
        number = self.folder.next_attempt(cell, self.runs.of(cell.spec.run_id))
        files = self.folder.make_attempt(cell, number)
        gpu = slot.gpu if cell.spec.device == "cuda" else None
        job = Job(
            spec=cell.spec,
            limits=cell.limits,
            files=files,
            tokens=self.tokens_file,
            cpus=slot.cpus,
            gpu_uuid=gpu.uuid if gpu else None,
        )
        identity = self._identity(cell, number, environment) | {
            "log_path": str(files.log.relative_to(self.folder.path)),
            "cpus": " ".join(str(cpu) for cpu in slot.cpus),
            "gpu_name": gpu.name if gpu else None,
            "gpu_uuid": gpu.uuid if gpu else None,
            "driver_version": self.machine.gpus.driver_version if gpu else None,
        }
        with self.folder.writing():
            attempt = run_attempt(
                job,
                self.launcher,
                lambda event: self._show(cell, event),
                self.stop,
                self.sample_ms,
            )
        return replace(attempt, columns=attempt.columns | identity)

    def _show(self, cell: Cell, event: Mapping[str, Any]) -> None:
        """Progress, if it is that: a worker may say anything."""
        figures = ("step", "loss", "tokens_per_s", "val_loss")
        if all(is_number(event.get(name, 0)) for name in figures):
            self.display.event(cell, dict(event))

    def _identity(self, cell: Cell, attempt: int, environment: Environment) -> dict[str, Any]:
        spec = cell.spec
        return {
            "run_id": spec.run_id,
            "host_id": self.machine.host_id,
            "attempt": attempt,
            "arm_id": spec.arm_id,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "model": spec.model.name,
            "optimizer": spec.optimizer.name,
            "device": spec.device,
            "seed": spec.seed,
            "order_in_seed": cell.order_in_seed,
            "runtime": self.launcher.runtime,
            "image_id": environment.image_id,
            "env_id": environment.env_id,
            "code_sha256": code_sha256(),
            "git_commit": self.machine.git_commit,
            "git_dirty": self.machine.git_dirty,
            "started_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "eval_protocol": spec.eval.protocol,
            "host_cpu_model": self.machine.cpu_model,
            "corpus": spec.corpus.name,
            "corpus_sha256": spec.corpus.sha256,
        }

    def _time_left_s(self, left: Sequence[Cell], lanes: int) -> float | None:
        """By the finished cells of each arm, or by arithmetic; None where neither tells."""
        by_arm = estimate_arms((cell.spec for cell in left), self.corpus, self.runs.rows)
        times = [by_arm[cell.spec.arm_id].wall_s for cell in left]
        known = [time for time in times if time is not None]
        return sum(known) / lanes if len(known) == len(times) else None


def _on_signal(stop: Stop) -> AbstractContextManager[None]:
    """Ctrl-C and SIGTERM set `stop` and nothing else: no row is torn by an exception."""
    return heard(lambda number: stop.set(f"stopped by {signal.Signals(number).name}", by_user=True))
