"""One cell: data, model, warm-up, training, inference, result."""

import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import astuple, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.border.checkpoints import Keeping
from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.border.logical import assert_covers, initialise
from bench.border.spec import CellFiles, RunSpec
from bench.border.surroundings import TERMINATED
from bench.models.nanokimi import NanoKimi
from bench.worker.arithmetic import (
    check_compiled,
    check_unchanged,
    compiled_once,
    prepare,
    told_of_cache,
)
from bench.worker.checkpoints import Checkpoints, Resumed
from bench.worker.clocks import PhaseClock, synchronise
from bench.worker.data import Tokens, hash_tensor, placed, read_corpus
from bench.worker.environment import (
    environment,
    gpu_memory_bytes,
    gpu_peaks_mib,
    processor_use,
    rss_peak_mib,
)
from bench.worker.evaluation import (
    INFER_AGREEMENT,
    INFER_ROUND,
    INFER_ROUNDS,
    Evaluator,
    infer_times_ms,
)
from bench.worker.figures import percentiles, training_columns
from bench.worker.graphs import stream
from bench.worker.lifeline import TerminatedError, was_terminated
from bench.worker.own_model import BroughtModel
from bench.worker.positions import BatchPositions
from bench.worker.protocol import Speaker, log, told, write_csv, write_json
from bench.worker.pruning import Pruning
from bench.worker.registry import MODELS, build_optimizers, flops_per_step
from bench.worker.streams import seed_shared_streams, torch_stream
from bench.worker.training import DivergedError, Point, Trainer
from bench.worker.trial import try_graphs, try_state

# Steps before the clock: the first ones build operator caches and grow the allocator.
WARMUP_STEPS = 5
# Lines of a file of windows' losses: of a longer text, so many parts of adjacent windows.
MOST_PARTS = 2_000
Values = list[tuple[torch.Tensor, torch.Tensor]]  # of tensors that may change: each, and a copy


def run_cell(
    folder: Path, tokens: Sequence[Path], started: float, say: Speaker, in_turn: bool = False
) -> int:
    """Run what spec.json asks, whatever comes of it; result.json says how it ended.

    tokens: the files of the corpus, in the order of the spec's.

    Returns the process's exit code: 0 for ok and diverged, 1 otherwise.
    """
    files = CellFiles(folder)
    clock = PhaseClock()
    with clock.during("import", since=started):
        spec = RunSpec.from_json(files.spec.read_text(encoding="utf-8"))
        keeping = Keeping.read(files.keeping)
        kept = Checkpoints(files, spec, keeping) if keeping else None
        cell = CellRun(spec, clock, say, in_turn, kept)
    status, reason = _ended(cell, tokens)
    finished = time.monotonic()  # of the work: what follows is teardown
    say(stage="teardown")
    _leave_files(files, cell)
    if status == "ok":
        for split, losses in cell.of_windows.items():
            _leave_windows(files.windows(split), losses)
    write_json(
        files.result,
        {
            "schema_version": SCHEMA_VERSION,
            "run_id": spec.run_id,
            "code_sha256": code_sha256(),
            "status": status,
            "reason": reason,
            "stage": None if status == "ok" else clock.phase,
            "started": started,
            "finished": finished,
            "spans": clock.spans,
            "carried_s": clock.carried_s,
            "context_window": cell.context_window,
            "row": cell.row(),
        },
    )
    return 0 if status in ("ok", "diverged") else 1


def _ended(cell: "CellRun", tokens: Sequence[Path]) -> tuple[str, str | None]:
    """Run it: its status, and why it is not ok."""
    try:
        cell.run(tokens)
    except DivergedError as error:
        return "diverged", str(error)
    except BaseException as error:
        if isinstance(error, TerminatedError) and was_terminated():
            return "interrupted", TERMINATED
        log(traceback.format_exc())
        status = "oom" if _is_out_of_memory(error) else "crashed"
        return status, f"{type(error).__name__}: {error}"
    return "ok", None


def _is_out_of_memory(error: BaseException) -> bool:
    # torch's CPU allocator, and CUDA's libraries, have no exception of their own, only a message.
    messages = ("DefaultCPUAllocator", "CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in messages)
    )


def _leave_files(files: CellFiles, cell: "CellRun") -> None:
    write_json(files.env, environment())
    if cell.trainer is None:
        return
    points = [astuple(point) for point in cell.trainer.curve]
    write_csv(files.curve, [field.name for field in fields(Point)], points)
    losses = cell.trainer.losses[: cell.trainer.timer.steps].tolist()
    steps = [
        (sample.last_step, sample.steps, sample.time_ms, losses[sample.last_step])
        for sample in cell.trainer.timer.samples
    ]
    write_csv(files.steps, ("step", "steps", "time_ms", "loss"), steps)


def _leave_windows(path: Path, losses: torch.Tensor) -> None:
    """Nats a token of each window (n,), or of parts of as many of them to one, in their order."""
    parts = np.array_split(losses.numpy(), min(len(losses), MOST_PARTS))
    # In the digits that float32 has: these files are the largest that a cell leaves.
    write_csv(path, ("windows", "loss"), ((len(part), f"{part.mean():.7g}") for part in parts))


class CellRun:
    """The state of a run. `row` tells what is known of it at any moment, also after a failure."""

    def __init__(
        self,
        spec: RunSpec,
        clock: PhaseClock,
        say: Callable[..., None],
        in_turn: bool = False,
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self.spec = spec
        self.in_turn = in_turn  # it trains in turn with others
        self.checkpoints = checkpoints
        self.clock = clock
        self.say = say
        self.known: dict[str, Any] = {}  # columns of runs.csv
        self.trainer: Trainer | None = None
        self.of_windows: dict[str, torch.Tensor] = {}  # losses at the last evaluation, by split
        # On CUDA: from when to when the device held its context and nothing else.
        self.context_window: tuple[float, float] | None = None
        prepare(spec.train)

    def run(self, files: Sequence[Path]) -> None:
        device = self._open_device()
        tokens, positions = self._read(files, device)
        self.trainer = trainer = self._build(tokens, positions, device)
        self._warm_up(trainer)
        train, seed = self.spec.train, self.spec.seed
        evaluator = Evaluator(tokens, self.spec.eval, train.batch_size, train.block_size, seed)
        if self.checkpoints:
            self._go_on(self.checkpoints, trainer)
        with compiled_once(train):
            trainer.run(evaluator, self.spec.eval.every, self.say, self.in_turn, self.checkpoints)
        self.of_windows = evaluator.of_windows
        check_unchanged(train)
        self._infer(trainer, tokens)

    def _open_device(self) -> torch.device:
        """The device, with its context made, which on CUDA takes time and memory of its own."""
        if self.spec.device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "the cell asks for cuda, and torch finds no usable GPU. See what python -m bench "
                "doctor says, or run on the CPU: device: [cpu]"
            )
        device = torch.device(self.spec.device)
        with self.clock.during("build"):
            torch.empty(1, device=device)
            if device.type == "cuda" and self.spec.train.graph_steps:
                torch.cuda.set_stream(stream())
            synchronise(device)
        self.clock.device = device
        return device

    def _read(self, files: Sequence[Path], device: torch.device) -> tuple[Tokens, BatchPositions]:
        context_ready = time.monotonic()
        self.say(stage="data")  # the launching side measures the context when it hears this
        train = self.spec.train
        with self.clock.during("data"):
            tokens = read_corpus(files, self.spec.corpus, self.spec.data)
            n_windows = len(tokens.windows("train", train.block_size))
            positions = BatchPositions(self.spec.seed, train.steps, train.batch_size, n_windows)
            self.known["data_order_hash"] = positions.order_hash
            if device.type == "cuda":
                self.context_window = (context_ready, time.monotonic())
            tokens = placed(tokens, device, gpu_memory_bytes(device), train.graph_steps)
            self.known["tokens_on"] = tokens.lie_on
            return tokens, positions.to(tokens.windows("train", train.block_size).place)

    def _build(self, tokens: Tokens, positions: BatchPositions, device: torch.device) -> Trainer:
        self.say(stage="build")
        spec = self.spec
        with self.clock.during("build"):
            build = MODELS[spec.model.base]
            model = build(spec.model.options, tokens.vocab_size, spec.train.block_size).to(device)
            trainer = Trainer(
                model,
                [],
                tokens.windows("train", spec.train.block_size),
                positions,
                self.clock,
                spec.train,
            )
            reset(trainer, self.spec)
            if isinstance(model, NanoKimi) and model.prune_every is not None:
                anew = partial(build_optimizers, self.spec.optimizer)
                trainer.pruning = Pruning(model, model.prune_every, anew)
            self._describe(trainer)
        return trainer

    def _describe(self, trainer: Trainer) -> None:
        """Operations of a model that changes while it trains are no constants: unknown."""
        model, changes = trainer.model, trainer.pruning is not None
        stacks = model.stacks()
        assert_covers(stacks, model)
        trained = [stack for stack in stacks if stack.parameter.requires_grad]
        of_optimizer = flops_per_step(self.spec.optimizer, trained)
        self.known |= {
            "init_hash": told("init_hash", lambda: hash_tensor(*model.parameters())),
            "n_params": model.n_params(),
            "n_params_active": model.n_params_active(),
            "flops_per_token": None if changes else model.flops_per_token(),
            "optimizer_flops_per_step": None if changes else of_optimizer,
        }

    def _warm_up(self, trainer: Trainer) -> None:
        """A few real steps, then back to the start: warm-up trains nothing."""
        # A brought model is built anew instead, with whatever it keeps.
        ours = [] if isinstance(trainer.model, BroughtModel) else list(trainer.model.buffers())
        before = [(buffer, buffer.clone()) for buffer in ours]
        if self.spec.train.compile:
            self._compile(trainer)
        self.say(stage="warmup")
        with self.clock.during("warmup"):
            if self.spec.train.graph_steps:
                try_graphs(trainer, lambda: self._undo(trainer, before))
            else:
                trainer.warm_up(WARMUP_STEPS)
            if self.checkpoints and not self.spec.is_ours:
                try_state(trainer, self.spec, lambda: self._undo(trainer, before))
            self._undo(trainer, before)
        check_unchanged(self.spec.train)

    def _undo(self, trainer: Trainer, before: Values) -> None:
        """Back to the start, also from what compiling has trained.

        Weights are drawn again rather than kept in a copy, which the memory's peak would show.
        """
        for buffer, value in before:
            buffer.copy_(value)
        reset(trainer, self.spec)

    def _go_on(self, checkpoints: Checkpoints, trainer: Trainer) -> None:
        self.say(stage="checkpoint")
        with self.clock.during("checkpoint"):
            checkpoints.go_on(trainer)
        if told := checkpoints.resumed.told:
            log(f"goes on from {told}")

    def _compile(self, trainer: Trainer) -> None:
        """One step, in which torch.compile does its work; warm-up undoes what it trained."""
        if shutil.which(os.environ.get("CXX", "g++")) is None:
            raise RuntimeError(
                "train.compile needs a C++ compiler, and there is none here. Install g++, name "
                "another one by CXX, run in a container of docker/, whose images have it, or "
                "leave out train.compile"
            )
        self.say(stage="compile")
        with self.clock.during("compile"):
            trainer.forward = torch.compile(trainer.model)
            torch._dynamo.config.suppress_errors = False  # they would leave parts uncompiled
            trainer.step(trainer.positions[0])
        check_compiled()
        self.known["compile_cache"] = told_of_cache()

    def _infer(self, trainer: Trainer, tokens: Tokens) -> None:
        self.say(stage="infer")
        train = self.spec.train
        with self.clock.during("infer"):
            windows = tokens.windows("val", train.block_size)
            rows = torch.arange(train.batch_size, device=windows.place) % len(windows)
            batch = windows.at(rows)[:, :-1].contiguous()
            with trainer.evaluating():
                times = infer_times_ms(trainer.model, batch, lambda: self.say(stage="infer"))
        if times is None:
            log(
                f"infer_time_ms_p50 is not known: of {INFER_ROUNDS} rounds of {INFER_ROUND} "
                f"forward passes no two in a row had medians within {INFER_AGREEMENT:.0%}"
            )
            return
        p50, p90 = percentiles(times, 50, 90)
        self.known |= {"infer_time_ms_p50": p50, "infer_time_ms_p90": p90}

    def row(self) -> dict[str, Any]:
        """Columns of runs.csv that the worker knows."""
        spec, device = self.spec, self.clock.device
        found = environment()
        resumed = self.checkpoints.resumed if self.checkpoints else Resumed()
        row = {
            **self.known,
            "resumed": resumed.times,
            "resumed_from": resumed.told,
            **{f"{phase}_time_s": seconds for phase, seconds in self.clock.seconds.items()},
            "threads": torch.get_num_threads(),
            "eval_protocol": spec.eval.protocol,
            "python_version": found["python_version"],
            "torch_version": found["torch_version"],
            "cuda_version": found.get("cuda_version"),
            "host_rss_peak_mib": rss_peak_mib(),
            **processor_use(),
            **gpu_peaks_mib(device),
        }
        if self.trainer is not None:
            row |= training_columns(self.trainer)
        if spec.corpus.tokens is not None:
            row["bits_per_char"] = None  # a token of a file is no character
        pruned = self.trainer is not None and self.trainer.pruning is not None
        if row.get("perplexity") is not None and not pruned:
            efficiency = row["perplexity"] / (row["n_params"] / 1e6)
            row["param_efficiency"] = efficiency if math.isfinite(efficiency) else None
        return row


def reset(trainer: Trainer, spec: RunSpec) -> None:
    """Weights from their streams and optimizers without a past: the state before step 0."""
    model = trainer.model
    trainer.optimizers = []  # the state of warm-up goes before the new one comes
    if isinstance(model, BroughtModel):
        model.draw(spec.seed, trainer.windows.device)
    else:
        initialise(model.stacks(), lambda name: torch_stream(spec.seed, "weights", name))
    trainer.optimizers = build_optimizers(spec.optimizer, model)
    trainer.begin()
    seed_shared_streams(spec.seed, "training")
