"""The one loop: pass over what is done, launch what is open, commit a row as each cell ends."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from bench.border.checkpoints import Keeping
from bench.border.circumstances import Circumstances
from bench.border.identity import SCHEMA_VERSION
from bench.errors import BenchError, CorpusError, GpuError, MissingError
from bench.launch.baton import Baton
from bench.launch.job import Environment, Job, Launcher, Stop
from bench.launch.reach import in_image, why_unreached
from bench.measure.gpus import Gpu, kind_of
from bench.measure.machine import Machine
from bench.measure.watch import SAMPLE_MS
from bench.records import checkpoints
from bench.records.cache import check_stored
from bench.records.cells import Cell
from bench.records.columns import SETTLED
from bench.records.endings import GPU_FAILED, is_machines_fault
from bench.records.folder import ResultsFolder
from bench.records.ownprogram import DataFolder
from bench.records.rows import Row, RunsTable, by_cell
from bench.records.tokenfiles import AnyCorpus
from bench.run.attempt import is_number, run_attempt
from bench.run.compiling import check_compile_cache, with_compiled
from bench.run.derived import derived_columns
from bench.run.estimate import estimate_arms
from bench.run.gpus import GpuRequest
from bench.run.lanes import Lanes, Slot, choose_jobs, make_slots
from bench.run.progress import PlainDisplay
from bench.run.shared_process import by_process, shared_out
from bench.run.signals import on_signal
from bench.run.standing import Here, Policy, skip_reason

MODULES = ("bench.worker", "bench.program")  # that run a cell of ours, or of a program
SIGNAL_S = 1.0  # the longest that Ctrl-C may go unnoticed


@dataclass
class Runner:
    """Runs cells of one matrix into one locked results folder."""

    folder: ResultsFolder
    runs: RunsTable
    launcher: Launcher
    corpus: AnyCorpus | None  # None: a program reads what it wants
    tokens: tuple[Path, ...]  # the files of the corpus that cells map
    machine: Machine  # with the GPUs that were asked for
    display: PlainDisplay
    policy: Policy
    name: str  # the matrix's
    gpus: GpuRequest = field(default_factory=GpuRequest)
    sample_ms: float = SAMPLE_MS  # between two readings of the GPU; 0: nothing is read
    code: Mapping[str, Path] = field(default_factory=dict)  # the matrix's own, by its SHA-256
    data: Mapping[str, DataFolder] = field(default_factory=dict)  # of its program, by name
    baton: Baton | None = None  # where cells train in turn with those of other runners
    stop: Stop = field(default_factory=Stop)
    # What cells of a device run in, once it was asked for: asking an engine takes its time.
    _environments: dict[str, Environment] = field(default_factory=dict, init=False)
    # What is launched: a cell, with all those that its process makes runs of, itself the first.
    _processes: dict[Cell, list[Cell]] = field(default_factory=dict, init=False)
    _reached: set[str] = field(default_factory=set, init=False)  # UUIDs of GPUs that were tried

    def run(self, cells: Sequence[Cell], jobs: int | None) -> None:
        """Bring every cell to a terminal row, unless `stop` is set first.

        `jobs`: cells at once; None: as many as this machine allows.

        Raises:
            CacheError, MissingError, RequestError: before anything runs.
            CacheError, CorpusError, EngineError, FolderError, GpuError, RecordError: when a launch
                or a commit fails, a corpus changed or a GPU is gone; cells not run stay open.
        """
        here = self._here(cells)
        not_done = [cell for cell in cells if not here.is_done(cell)]
        with on_signal(self.stop):
            machine = self.gpus.free_on(self.machine, not_done, jobs, self.display.say, self.stop)
        if self.stop.is_set:
            return
        skipped = {cell: why for cell in not_done if (why := skip_reason(cell, machine))}
        still_open = [cell for cell in not_done if cell not in skipped]
        if jobs is None:
            jobs, why = choose_jobs(still_open, machine)
            if still_open:
                self.display.chose(jobs, why)
        self._processes = by_process(still_open)
        lanes = Lanes(list(self._processes), make_slots(jobs, still_open, machine))
        check_compile_cache(still_open)
        with on_signal(self.stop):
            self._check_gpus(lanes)
        if self.stop.is_set:
            return
        try:
            left_s = self._time_left_s(lanes)
            with self.display.open(still_open, left_s), on_signal(self.stop):
                for cell, why in skipped.items():
                    self._skip(cell, why)
                for why, count in Counter(skipped.values()).items():
                    self.display.skipped(count, why)
                self._run_open(lanes, here.environments)
        except BaseException:
            with contextlib.suppress(BenchError):  # the first error is the one to tell
                self.folder.rebuild_curves(self.runs)
            raise
        if still_open or not self.folder.curves_are_current(self.runs):
            self.folder.rebuild_curves(self.runs)

    def rows(self, cells: Sequence[Cell]) -> list[Row | None]:
        """Of each cell the row that tells how it stands here; None: it is open."""
        here = self._here(cells)
        return [here.row_of(cell) for cell in cells]

    def ended(self, cells: Sequence[Cell]) -> list[Row]:
        """The rows of those that have ended, however."""
        return [row for row in self.rows(cells) if row and row["status"] in SETTLED]

    def _here(self, cells: Sequence[Cell]) -> Here:
        runnable = [cell for cell in cells if not skip_reason(cell, self.machine)]
        for device in {cell.spec.device for cell in runnable} - self._environments.keys():
            self._environments[device] = self.launcher.environment(device)
        return Here(self.machine, self._environments, self.policy, by_cell(self.runs.rows))

    def _check_gpus(self, lanes: Lanes) -> None:
        """Before anything runs, try out each GPU that cells are about to get.

        Raises:
            MissingError: if they could not compute on one; not once `stop` is set.
        """
        on_gpu = [cell for cell in lanes.waiting if cell.spec.device == "cuda"]
        failed: dict[Gpu, str] = {}
        for gpu in (gpu for slot in lanes.slots for gpu in slot.gpus):
            if gpu.uuid in self._reached:
                continue
            try:
                why = self._why_unreached(gpu.uuid)
            except MissingError:
                if not self.stop.is_set:  # else Ctrl-C ended the program that tried as well
                    raise
            if self.stop.is_set:
                return
            if why:
                failed[gpu] = why
            else:
                self._reached.add(gpu.uuid)
        if not failed:
            return
        told = "; ".join(f"cells cannot compute on {gpu}: {why}" for gpu, why in failed.items())
        if self._reached:
            told += f", or leave it out: --gpus {','.join(sorted(self._reached))}"
        if len(lanes.waiting) > len(on_gpu):
            told += ", or run the cells on the CPU alone: --only device=cpu"
        raise MissingError(f"nothing was run: {told}")

    def _why_unreached(self, gpu_uuid: str) -> str | None:
        found = self.launcher.reach(gpu_uuid, self.folder.path)
        driver = self.machine.gpus.driver_version
        return why_unreached(found, driver, in_image(self.launcher.runtime))

    def _skip(self, cell: Cell, why: str) -> None:
        """A row that says why; not a second one with the same reason."""
        rows = self.runs.of(cell.spec.run_id)
        if not rows or (rows[-1]["status"], rows[-1]["reason"]) != ("skipped", why):
            attempt = self.folder.next_attempt(cell, rows)
            row = self._identity(cell, attempt, Environment(env_id=""))
            skipped = {"started_at": _now(), "status": "skipped", "reason": why}
            self.runs.append({**row, **skipped})

    def _run_open(self, lanes: Lanes, environments: Mapping[str, Environment]) -> None:
        failures: list[Exception] = []
        with ThreadPoolExecutor(len(lanes.slots)) as pool:
            while True:
                with self._stopping_at(failures):
                    self.folder.check_held()
                    while lanes.may_launch and not self.stop.is_set:
                        cell, slot = lanes.next()
                        self.display.started(cell)
                        environment = environments[cell.spec.device]
                        future = pool.submit(self._run_cell, cell, slot, environment)
                        lanes.launched(future, cell, slot)
                if not lanes.futures:
                    break
                # A signal that comes just before a wait without end would not be seen in it.
                for future in wait(lanes.futures, SIGNAL_S, FIRST_COMPLETED).done:
                    with self._stopping_at(failures):
                        cell, beside = lanes.ended(future)
                        self._commit(cell, [row | beside for row in future.result()], lanes)
        if failures:
            raise failures[0]

    @contextlib.contextmanager
    def _stopping_at(self, failures: list[Exception]) -> Iterator[None]:
        """An error ends the cells that run as well; their rows are committed before it is told."""
        try:
            yield
        except Exception as error:
            failures.append(error)
            self.stop.set("stopped because another cell's launch or record failed")

    def _commit(self, cell: Cell, rows: list[dict[str, Any]], lanes: Lanes) -> None:
        """What became of a process: a row for each cell that it was to make a run of."""
        for columns in rows:
            self.runs.append(columns)
        ended = list(zip(self._processes[cell], rows, strict=True))
        # If the machine failed, it did so last: runs before are done, and are not made again.
        lost = [one for one, row in ended if is_machines_fault(row["status"], row["reason"] or "")]
        gone = self._why_gone(rows[-1]) if lost else None
        if lost and not gone and lanes.again(lost):
            self._processes[lost[0]] = lost
            self.display.again(lost[0], rows[-1])
            ended = [each for each in ended if each[0] not in lost]
        for one, columns in ended:
            self.display.ended(one, columns, self._time_left_s(lanes))
        if gone:
            raise GpuError(gone)

    def _why_gone(self, columns: Mapping[str, Any]) -> str | None:
        """Why no cell can compute any more on a GPU that failed; None if cells can, or it did not.

        Else each further cell would be launched into the same failure.
        """
        if not columns["gpu_uuid"] or not columns["reason"].startswith(GPU_FAILED):
            return None
        for gpu in self.machine.gpus.gpus:
            if gpu.uuid not in columns["gpu_uuid"].split():
                continue
            try:
                why = self._why_unreached(gpu.uuid)
            except MissingError as error:
                why = str(error)
            if why:
                return f"{gpu} failed, and cells can no longer compute on it: {why}"
        return None

    def _run_cell(self, cell: Cell, slot: Slot, environment: Environment) -> list[dict[str, Any]]:
        """One attempt, in a thread of its own: a row of runs.csv for each cell of its process."""
        number = self.folder.next_attempt(cell, self.runs.of(cell.spec.run_id))
        job = self._job(cell, slot, number)
        seen = self._seen(job, slot)
        self._hand_on(job, environment, seen["gpu_name"])
        # Asked now: a cache that fails must not take the row of a cell that has run with it.
        bytes_per_token = self.corpus.val_bytes_per_token(cell.spec.data) if self.corpus else None

        def run() -> list[dict[str, Any]]:
            show = partial(self._show, cell)
            return run_attempt(job, self.launcher, show, self.stop, self.sample_ms)

        with self.folder.writing():
            rows = with_compiled(job, environment, seen["gpu_name"], run)
        self._check_corpus_after(job)
        if rows[0]["status"] == "ok" and not job.limits.keep_checkpoints:
            checkpoints.discard_all(job.files)
        cells = self._processes[cell]
        if len(rows) > len(cells):
            told = f"{job.files.log} tells of {len(rows)}, and {len(cells)} were open"
            self.display.say(told, "runs")
        found = []
        for nth, (one, row) in enumerate(zip(cells, shared_out(rows, len(cells)), strict=True), 1):
            if nth > 1:
                number = self.folder.next_attempt(one, self.runs.of(one.spec.run_id))
                self.folder.take_over(job.files, nth, self.folder.make_attempt(one, number))
            row |= derived_columns(one.spec, row, seen["gpu_name"], bytes_per_token)
            found.append(row | self._identity(one, number, environment) | seen)
        return found

    def _job(self, cell: Cell, slot: Slot, number: int) -> Job:
        """The attempt of that number, laid out.

        Raises:
            CacheError, CodeError, CorpusError: if what it reads is no longer what it was.
            FolderError: if its folder cannot be made.
        """
        if self.corpus:
            self.corpus.check_unchanged(self.tokens)
        for each in self.data.values():
            each.check()
        code = tuple(self.code[sha256] for sha256 in cell.spec.own_code)
        for folder in code:
            check_stored(folder, "the matrix's own code")
        return Job(
            spec=cell.spec,
            limits=cell.limits,
            files=self.folder.make_attempt(cell, number),
            tokens=self.tokens,
            cpus=slot.cpus,
            gpu_uuids=tuple(gpu.uuid for gpu in slot.gpus[: cell.spec.gpus]),
            code=code,
            data=tuple((name, each.path) for name, each in self.data.items()),
            module=MODULES[cell.spec.program is not None],
            baton=self.baton if cell.spec.can_take_turns else None,
        )

    def _check_corpus_after(self, job: Job) -> None:
        """A run that may have read other tokens gets no row, and leaves nothing to go on from.

        Raises:
            CorpusError: if what it read was rewritten meanwhile.
        """
        if self.corpus is None:
            return
        try:
            self.corpus.check_after(self.tokens)
        except CorpusError:
            checkpoints.discard_all(job.files)
            raise

    def _hand_on(self, job: Job, environment: Environment, gpu_name: str | None) -> None:
        """What an attempt that keeps checkpoints is told, and those of the one before it."""
        every = job.limits.checkpoint_every
        if every is None:
            return
        host_id = self.machine.host_id
        here = Circumstances(job.spec.code_sha256, environment.env_id, gpu_name or "", host_id)
        with self.folder.writing():
            Keeping(every, here).write(job.files.keeping)
            step = checkpoints.hand_on(job.files, self.runs.of(job.spec.run_id), here)
        if step is not None:
            spec = job.spec
            named = f"{spec.model.name} + {spec.optimizer.name}, {spec.device}, seed {spec.seed}"
            self.display.say(f"{named} goes on from step {step:,}", "checkpoint")

    def _seen(self, job: Job, slot: Slot) -> dict[str, Any]:
        """What is known of an attempt as it is launched, beside what its cell is."""
        gpus = slot.gpus[: job.spec.gpus]
        return {
            "started_at": _now(),
            "log_path": str(job.files.log.relative_to(self.folder.path)),
            "cpus": " ".join(str(cpu) for cpu in slot.cpus),
            "gpu_name": kind_of(gpus) if gpus else None,
            "gpu_uuid": " ".join(job.gpu_uuids) or None,
            "driver_version": self.machine.gpus.driver_version if gpus else None,
        }

    def _show(self, cell: Cell, event: dict[str, Any]) -> None:
        """Progress, if it is that: a worker may say anything."""
        figures = ("step", "loss", "tokens_per_s", "val_loss")
        if all(is_number(event.get(name, 0)) for name in figures):
            self.display.event(cell, event)

    def _identity(self, cell: Cell, attempt: int, environment: Environment) -> dict[str, Any]:
        spec = cell.spec
        return {
            **cell.columns,
            "host_id": self.machine.host_id,
            "attempt": attempt,
            "schema_version": SCHEMA_VERSION,
            "name": self.name,
            "runtime": self.launcher.runtime,
            "image_id": environment.image_id,
            "env_id": environment.env_id,
            "code_sha256": spec.code_sha256,
            "git_commit": self.machine.git_commit,
            "git_dirty": self.machine.git_dirty,
            "eval_protocol": None if spec.program else spec.eval.protocol,
            "host_cpu_model": self.machine.cpu_model,
            "corpus": spec.corpus.name,
            "corpus_sha256": spec.corpus.sha256,
        }

    def _time_left_s(self, lanes: Lanes) -> float | None:
        """By the finished cells of each arm, or by arithmetic; None where neither tells."""
        cells = lanes.cells()
        by_arm = estimate_arms((cell.spec for cell in cells), self.corpus, self.runs.rows)
        walls = {arm_id: expected.wall_s for arm_id, expected in by_arm.items()}
        known = {arm_id: wall_s for arm_id, wall_s in walls.items() if wall_s is not None}
        if known != walls:
            return None
        return lanes.left_s(lambda cell: known[cell.spec.arm_id] * len(self._processes[cell]))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
