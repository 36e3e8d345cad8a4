"""How a cell ended, judged from its process's exit and from what it left behind."""

import json
import shutil
import signal
import sys
from dataclasses import dataclass
from typing import Any

from bench.border.identity import SCHEMA_VERSION, code_sha256
from bench.border.spec import PHASES
from bench.launch.job import Exit, Job, read_left
from bench.measure.figures import Phases
from bench.records import endings
from bench.records.columns import RUN_COLUMNS
from bench.records.endings import is_machines_fault

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
    *("eval_protocol", "init_hash", "data_order_hash"),
    *("python_version", "torch_version", "cuda_version"),
)


@dataclass(frozen=True)
class Outcome:
    columns: dict[str, Any]  # of runs.csv
    phases: Phases
    fault_of_machine: bool  # worth another attempt


@dataclass(frozen=True)
class _Verdict:
    status: str
    reason: str | None
    stage: str | None


def judge(job: Job, ended: Exit) -> Outcome:
    result, why_invalid = _read_result(job)
    verdict = _verdict(job, ended, result, why_invalid)
    shared_clock = result is not None and _is_within(result, ended)
    row: dict[str, Any] = {**result["row"]} if result else {}
    row |= {"status": verdict.status, "reason": verdict.reason, "stage": verdict.stage}
    row |= _times(ended, result if shared_clock else None)
    phases = _phases(result) if result and shared_clock else Phases()
    fault = is_machines_fault(verdict.status, verdict.reason or "")
    return Outcome(row, phases, fault)


def _verdict(job: Job, ended: Exit, result: dict[str, Any] | None, why_invalid: str) -> _Verdict:
    last = ended.last_event or {}
    stage = str(last.get("stage", "startup"))
    where = (f"{stage} at step {last['step']}" if "step" in last else stage)[:MAX_STAGE]
    if ended.ended_by != "itself":
        status = "interrupted" if ended.ended_by == "interrupt" else "timeout"
        return _Verdict(status, ended.stopped_why, where)
    done = result is not None and result["status"] == "ok" and ended.code == 0
    if ended.oom_killed and not done:  # else the kernel took a helper of it, and it went on
        limit = job.limits.memory_gib
        reason = f"the kernel killed it for memory: limits.memory_gib = {limit:g}"
        return _Verdict("oom_killed", reason, where)
    if result is None and _how(ended) == "ended by SIGTERM":
        return _Verdict("interrupted", "ended by SIGTERM", where)
    if result is None:
        how = _how(ended)
        reason = f"{how}; {why_invalid}{full_disk(job)}{_log_tail(job)}"
        return _Verdict("crashed", reason, where)
    if result["status"] == "ok" and ended.code != 0:
        return _Verdict("crashed", f"{_how(ended)} after it had reported success", where)
    return _Verdict(result["status"], result["reason"], result["stage"])


def _how(ended: Exit) -> str:
    """The exit in words. A shell and a container engine report a signal as 128 + its number."""
    number = -ended.code if ended.code < 0 else ended.code - 128
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {ended.code}"


def full_disk(job: Job) -> str:
    """The end of a reason, where a full disk may be the cause; else empty."""
    folder = job.files.folder
    is_full = shutil.disk_usage(folder).free < FULL
    return f"; the disk of {folder.parent} is full" if is_full else ""


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
        "code_sha256": code_sha256(),
    }
    for key, value in wanted.items():
        if not isinstance(result, dict) or result.get(key) != value:
            return None, f"its result has another {key}: did the code change while it ran?"
    why = _why_malformed(job, result)
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
            return f"its result's {name} is {str(value)[:80]!r}"
    stamps = (result.get("started"), result.get("finished"))
    if result.get("status") not in REPORTED or not all(map(is_number, stamps)):
        return "its result lacks its status or its times"
    if not isinstance(reason, str) and result["status"] != "ok":
        return "its result gives no reason"
    needed = (*OF_OK, "test_loss_final") if len(job.spec.data.shares) > 2 else OF_OK
    if result["status"] == "ok" and any(row.get(name) is None for name in needed):
        return f"its result says ok and lacks one of {', '.join(needed)}"
    spans = result.get("spans")
    if not isinstance(spans, list) or not all(map(_is_span, spans)):
        return "its result lacks the spans of its phases"
    context = result.get("context_window")
    if context is not None and not (isinstance(context, list) and _is_span(["data", *context])):
        return "its result has no valid context_window"
    return None


def is_number(value: Any) -> bool:
    """A finite float, or an integer that a float can hold."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


def _is_span(value: Any) -> bool:
    """[phase, begin, end]"""
    return (
        isinstance(value, list)
        and len(value) == 3
        and value[0] in PHASES
        and is_number(value[1])
        and is_number(value[2])
    )


def _is_within(result: dict[str, Any], ended: Exit) -> bool:
    """Whether the worker's stamps are of our clock: a virtual machine has one of its own."""
    return bool(ended.launched <= result["started"] <= result["finished"] <= ended.exited)


def _phases(result: dict[str, Any]) -> Phases:
    train = tuple((begin, end) for phase, begin, end in result["spans"] if phase == "train")
    context = result.get("context_window")
    return Phases(train, tuple(context) if context else None)


def _times(ended: Exit, result: dict[str, Any] | None) -> dict[str, float]:
    """Wall time, and the phases that only both sides together know."""
    wall = ended.exited - ended.launched
    if result is None:
        return {"wall_time_s": wall}
    startup = result["started"] - ended.launched
    teardown = ended.exited - result["finished"]
    inside = sum(result["row"].get(f"{phase}_time_s") or 0.0 for phase in PHASES)
    return {
        "wall_time_s": wall,
        "startup_time_s": startup,
        "teardown_time_s": teardown,
        "unaccounted_time_s": wall - startup - inside - teardown,
    }
