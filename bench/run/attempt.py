"""One attempt at one cell: launched, watched, judged; its row, and its evidence on the disk."""

import errno
import json
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bench.border.atomic import write_atomically
from bench.border.identity import SCHEMA_VERSION
from bench.border.spec import PHASES
from bench.border.surroundings import TERMINATED
from bench.errors import EngineError
from bench.launch.job import Exit, Job, Launcher, Stop, read_left
from bench.measure import figures, samples, taint
from bench.measure.figures import Phases
from bench.measure.watch import Readings, Watch
from bench.records import endings
from bench.records.columns import RUN_COLUMNS
from bench.records.rows import write_table
from bench.run.gpu_fault import with_gpu_fault
from bench.run.shared_process import runs_in

DISK_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)
LOG_TAIL = 300  # characters of the log that a reason may quote
MAX_STAGE = 80  # characters of what a worker says that it does
MAX_RESULT = 2**28  # bytes: the worker owns its folder, and must not fill our memory
FULL = 2**20  # bytes: a disk with less room left is what a crash is blamed on

# The ends that a worker can tell itself.
REPORTED = ("ok", "diverged", "oom", "crashed", "interrupted")
# Without these a cell is not ok, whatever it says.
OF_OK = ("val_loss_final", "train_time_s", "steps")
# What a worker reports as text; everything else is a number.
TEXTS = (
    *("eval_protocol", "init_hash", "data_order_hash", "compile_cache", "tokens_on"),
    *("step_time_source", "metrics", "resumed_from"),
    *("python_version", "torch_version", "cuda_version"),
)


def run_attempt(
    job: Job,
    launcher: Launcher,
    on_event: Callable[[dict[str, Any]], None],
    stop: Stop,
    sample_ms: float,
) -> list[dict[str, Any]]:
    """Run a cell to its end, whatever that is; its columns of runs.csv, but for what the cell is.

    Several, where its program makes several runs in one process; in their order.

    Raises:
        EngineError: if the engine failed, so that nothing can be said of the cell.
        OSError: if the disk does not take its evidence.
    """
    with Watch(job.gpu_uuids, job.cpus, sample_ms / 1000, on_event) as watch:
        try:
            ended = launcher.run(job, watch, stop)
        except EngineError as error:  # it may be no fault of the engine
            raise EngineError(f"{error}{_full_disk(job)}") from error
    judged = judge_runs(job, ended)
    trained = Phases(tuple(span for _, phases in judged for span in phases.train))
    evidence = _left_evidence(job, ended, watch.readings, trained)
    rows = []
    for row, phases in judged:
        row |= with_gpu_fault(row, watch.readings, ended, job.limits)
        row |= figures.columns(watch.readings, phases)
        row |= _disturbed(watch.readings, phases, row)
        rows.append(row | _limits(job, launcher) | evidence)
    return rows


def _disturbed(readings: Readings, phases: Phases, row: dict[str, Any]) -> dict[str, Any]:
    found = taint.judge(readings, phases, row)
    return {
        "tainted": found.tainted,
        "taint_reasons": found.reasons,
        "taint_unchecked": found.unchecked,
    }


def _limits(job: Job, launcher: Launcher) -> dict[str, Any]:
    return {
        "memory_limit_gib": job.limits.memory_gib,
        "timeout_limit_s": job.limits.timeout_s,
        "heartbeat_limit_s": job.limits.heartbeat_s,
        "memory_limit_enforced": launcher.enforces_memory,
        "cpus_enforced": launcher.enforces_cpus,
    }


def _left_evidence(job: Job, ended: Exit, readings: Readings, phases: Phases) -> dict[str, Any]:
    """What it changes of a row that its evidence cannot be written: nothing, if it can be.

    Raises:
        OSError: if the disk does not take it.
    """
    try:
        _leave_evidence(job, ended, readings, phases)
    except OSError as error:
        if error.errno in DISK_FAILED:
            raise
        # The worker owns its folder, and left something in the way.
        return {"status": "crashed", "reason": f"its folder cannot be written: {error}"}
    return {}


def _leave_evidence(job: Job, ended: Exit, readings: Readings, phases: Phases) -> None:
    """samples.csv, and what the readings rest on beside the worker's own account in env.json."""
    rows = samples.rows(readings, ended.launched, phases.train)
    write_table(job.files.samples, samples.COLUMNS, rows)
    worker = read_left(job.files.env, last=MAX_RESULT)
    launcher = {
        "sample_ms": readings.every_s * 1000,
        "readings_of_gpu": len(readings.gpu),
        "readings_of_host": len(readings.host),
        "gpu_before_launch": asdict(readings.baseline) if readings.baseline else None,
        "not_read": readings.reasons.copy(),  # a reading that hung may come back meanwhile
    }
    write_atomically(job.files.env, _both_accounts(worker, launcher))


def _both_accounts(worker: str, launcher: dict[str, Any]) -> str:
    """The text of env.json. What the worker left may be cut off, or too deep to read or write."""
    try:
        return json.dumps({"worker": json.loads(worker), "launcher": launcher}, indent=2) + "\n"
    except (ValueError, RecursionError):
        return json.dumps({"worker": {}, "launcher": launcher}, indent=2) + "\n"


def judge(job: Job, ended: Exit) -> tuple[dict[str, Any], Phases]:
    """How a cell ended, by its process's exit and what it left behind: columns, and its phases."""
    return judge_runs(job, ended)[0]


def judge_runs(job: Job, ended: Exit) -> list[tuple[dict[str, Any], Phases]]:
    """The same of each run that its process made: of one, but for a program with `trials`."""
    result, why_invalid = _read_result(job)
    if result is None or "trials" not in result:
        return [_judged(job, ended, result, why_invalid)]
    shared_clock = _is_within(result, ended)
    return [_judged(job, part, of_run, "") for part, of_run in runs_in(ended, result, shared_clock)]


def _judged(
    job: Job, ended: Exit, result: dict[str, Any] | None, why_invalid: str
) -> tuple[dict[str, Any], Phases]:
    status, reason, stage = _verdict(job, ended, result, why_invalid)
    shared_clock = result is not None and _is_within(result, ended)
    row: dict[str, Any] = {**result["row"]} if result else {}
    row |= {"status": status, "reason": reason, "stage": stage}
    row |= _times(ended, result, shared_clock)
    return row, _phases(result) if result and shared_clock else Phases()


def _verdict(
    job: Job, ended: Exit, result: dict[str, Any] | None, why_invalid: str
) -> tuple[str, str | None, str | None]:
    """(status, reason, stage)"""
    last = ended.last_event or {}
    stage = str(last.get("stage", "startup"))
    where = (f"{stage} at step {last['step']}" if "step" in last else stage)[:MAX_STAGE]
    if ended.ended_by != "itself":
        status = "interrupted" if ended.ended_by == "interrupt" else "timeout"
        return status, ended.stopped_why, where
    done = result is not None and result["status"] == "ok" and ended.code == 0
    if ended.oom_killed and not done:  # else the kernel took a helper of it, and it went on
        gib = job.limits.memory_gib
        return "oom_killed", f"the kernel killed it for memory: limits.memory_gib = {gib:g}", where
    how = _how(ended)
    if result is None and how == "ended by SIGTERM":
        return "interrupted", how, where
    if result is None:
        return "crashed", f"{how}; {why_invalid}{_full_disk(job)}{_log_tail(job)}", where
    if result["status"] == "ok" and ended.code != 0:
        return "crashed", f"{how} after it had reported success", where
    reason = result["reason"]
    if endings.is_machines_fault(result["status"], reason or ""):
        full = _full_disk(job)  # seen from here; else it is the cell's word alone
        reason = f"{reason}{full}" if full else f"{endings.CELL_SAYS}{reason}"
    return result["status"], reason, result["stage"]


def _how(ended: Exit) -> str:
    """The exit in words. A shell and a container engine report a signal as 128 + its number."""
    number = -ended.code if ended.code < 0 else ended.code - 128
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {ended.code}"


def _full_disk(job: Job) -> str:
    """The end of a reason, where a full disk may be the cause; else empty."""
    folder = job.files.folder
    full = shutil.disk_usage(folder).free < FULL
    return f"; the disk of {folder.parent} is full" if full else ""


def _log_tail(job: Job) -> str:
    text = read_left(job.files.log, last=4 * LOG_TAIL).strip()
    return f"{endings.LOG_TAIL}{text[-LOG_TAIL:]}" if text else ""


def _read_result(job: Job) -> tuple[dict[str, Any] | None, str]:
    """result.json if it is whole and about this cell, else why it is not."""
    text = read_left(job.files.result, last=MAX_RESULT)
    if not text:
        return None, "it left no result"
    try:
        result = json.loads(text, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        return None, f"its result cannot be read ({error})"
    wanted = {
        "schema_version": SCHEMA_VERSION,
        "run_id": job.spec.run_id,
        "code_sha256": job.spec.code_sha256,
    }
    for key, value in wanted.items():
        if not isinstance(result, dict) or result.get(key) != value:
            return None, f"its result has another {key}: did the code change while it ran?"
    why = _why_malformed(job, result)
    program = job.spec.program
    if not why and program is not None and program.trials:
        why = _why_no_trials(job, result)
    return (None, why) if why else (result, "")


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number that JSON knows")


def _why_malformed(job: Job, result: dict[str, Any]) -> str | None:
    row, reason = result.get("row"), result.get("reason")
    if not isinstance(row, dict) or not set(row) <= set(RUN_COLUMNS):
        return "its result has columns that runs.csv does not know"
    for name, value in row.items():
        fits = isinstance(value, str) if name in TEXTS else is_number(value)
        if value is not None and not fits:
            return f"its result has a wrong {name}; {endings.CELL_SAYS}{str(value)[:80]!r}"
    stamps = (result.get("started"), result.get("finished"))
    if result.get("status") not in REPORTED or not all(map(is_number, stamps)):
        return "its result lacks its status or its times"
    if not isinstance(reason, str) and result["status"] != "ok":
        return "its result gives no reason"
    if result["status"] == "interrupted" and reason != TERMINATED:
        return f"its result says interrupted, and not by SIGTERM; {endings.CELL_SAYS}{reason}"
    needed: tuple[str, ...] = OF_OK
    if job.spec.program is not None:
        needed = ()  # what must be read of it, it knows itself
    elif job.spec.has_test:
        needed = (*OF_OK, "test_loss_final")
    if result["status"] == "ok" and any(row.get(name) is None for name in needed):
        return f"its result says ok and lacks one of {', '.join(needed)}"
    carried_s = result.get("carried_s", 0.0)
    if not is_number(carried_s) or carried_s < 0:
        return "its result has a wrong carried_s"
    spans = result.get("spans")
    if not isinstance(spans, list) or not all(map(_is_span, spans)):
        return "its result lacks the spans of its phases"
    context = result.get("context_window")
    if context is not None and not (isinstance(context, list) and _is_span(["data", *context])):
        return "its result has no valid context_window"
    return None


def _why_no_trials(job: Job, result: dict[str, Any]) -> str | None:
    trials = result.get("trials")
    if not isinstance(trials, list) or not trials:
        return "its result lacks the runs that it made"
    for trial in trials:
        if not isinstance(trial, dict) or not _is_span(
            ["train", trial.get("begin"), trial.get("end")]
        ):
            return "its result lacks the times of a run that it made"
        if why := _why_malformed(job, {**result, **trial}):
            return why
    return None


def is_number(value: Any) -> bool:
    """A finite float, or an integer that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _is_span(value: Any) -> bool:
    """[phase, begin, end]"""
    whole = isinstance(value, list) and len(value) == 3
    return whole and value[0] in PHASES and all(map(is_number, value[1:]))


def _is_within(result: dict[str, Any], ended: Exit) -> bool:
    """Whether the worker's stamps are of our clock: a virtual machine has one of its own."""
    return bool(ended.launched <= result["started"] <= result["finished"] <= ended.exited)


def _phases(result: dict[str, Any]) -> Phases:
    train = tuple((begin, end) for phase, begin, end in result["spans"] if phase == "train")
    context = result.get("context_window")
    in_turn = any(phase == "wait" for phase, _, _ in result["spans"])
    return Phases(train, tuple(context) if context else None, in_turn)


def _times(ended: Exit, result: dict[str, Any] | None, shared_clock: bool) -> dict[str, float]:
    """Wall time, and the phases that only both sides together know."""
    wall = ended.exited - ended.launched - ended.waited_s
    if result is not None:
        wall += result.get("carried_s", 0.0)  # of earlier attempts, in its phases as well
    if result is None or not shared_clock:
        return {"wall_time_s": wall}
    startup = result["started"] - ended.launched
    teardown = ended.exited - result["finished"]
    inside = sum(result["row"].get(f"{phase}_time_s") or 0.0 for phase in PHASES if phase != "wait")
    return {
        "wall_time_s": wall,
        "startup_time_s": startup,
        "teardown_time_s": teardown,
        "unaccounted_time_s": wall - startup - inside - teardown,
    }
