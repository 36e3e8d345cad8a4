"""How a cell ended, judged from its process's exit and from what it left behind."""

import json
import signal
from pathlib import Path
from typing import Any

from bench.identity import SCHEMA_VERSION, code_sha256
from bench.launch.job import Exit, Job
from bench.records import RUN_COLUMNS
from bench.spec import PHASES

LOG_TAIL = 300  # characters of the log that a reason may quote
REPORTED = ("ok", "diverged", "oom", "crashed")  # the ends that a worker can tell itself


def columns(job: Job, ended: Exit) -> dict[str, Any]:
    """The columns of runs.csv that follow from the end of a cell."""
    result, why_invalid = _read_result(job)
    status, reason, stage = _verdict(job, ended, result, why_invalid)
    row: dict[str, Any] = {**result["row"]} if result else {}
    row |= {"status": status, "reason": reason, "stage": stage}
    row |= _times(ended, result)
    return row


def _verdict(
    job: Job, ended: Exit, result: dict[str, Any] | None, why_invalid: str
) -> tuple[str, str | None, str | None]:
    """(status, reason, stage)."""
    last = ended.last_event or {}
    stage = last.get("stage", "startup")
    where = f"{stage} at step {last['step']}" if "step" in last else stage
    if ended.ended_by == "interrupt":
        return "interrupted", ended.stopped_why, where
    if ended.ended_by == "timeout":
        limit = job.limits.timeout_s
        return "timeout", f"stopped after limits.timeout_s = {limit:g} seconds", where
    if ended.oom_killed:
        limit = job.limits.memory_gib
        reason = f"the kernel killed it for memory: limits.memory_gib = {limit:g}"
        return "oom_killed", reason, where
    if result is None:
        return "crashed", f"{_how(ended)}; {why_invalid}{_log_tail(job)}", where
    if result["status"] == "ok" and ended.code != 0:
        return "crashed", f"{_how(ended)} after it had reported success", where
    return result["status"], result["reason"], result["stage"]


def _how(ended: Exit) -> str:
    """The exit in words. A shell and a container engine report a signal as 128 + its number."""
    number = -ended.code if ended.code < 0 else ended.code - 128
    try:
        return f"ended by {signal.Signals(number).name}"
    except ValueError:
        return f"exit code {ended.code}"


def _log_tail(job: Job) -> str:
    text = (_read_left(job.files.log) or "").strip()
    return f"; its log ends: {text[-LOG_TAIL:]}" if text else ""


def _read_result(job: Job) -> tuple[dict[str, Any] | None, str]:
    """result.json if it is whole and about this cell, else why it is not."""
    text = _read_left(job.files.result)
    if text is None:
        return None, "it left no result"
    try:
        result = json.loads(text)
    except ValueError as error:
        return None, f"its result cannot be read ({error})"
    wanted = {
        "schema_version": SCHEMA_VERSION,
        "run_id": job.spec.run_id,
        "code_sha256": code_sha256(),
    }
    for key, value in wanted.items():
        if not isinstance(result, dict) or result.get(key) != value:
            return None, f"its result has another {key}: did the code change while it ran?"
    row, stamps = result.get("row"), (result.get("started"), result.get("finished"))
    if not isinstance(row, dict) or not set(row) <= set(RUN_COLUMNS):
        return None, "its result has columns that runs.csv does not know"
    if result.get("status") not in REPORTED or not all(isinstance(at, float) for at in stamps):
        return None, "its result lacks its status or its times"
    return result, ""


def _read_left(path: Path) -> str | None:
    """A text that the worker left, None if there is none.

    No link is followed: the worker owns its folder, and must not make us read another file.
    """
    if path.is_symlink() or not path.is_file():
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def _times(ended: Exit, result: dict[str, Any] | None) -> dict[str, float]:
    """Wall time, and the phases that only both sides together know."""
    wall = ended.exited - ended.launched
    if result is None:
        return {"wall_time_s": wall}
    startup = result["started"] - ended.launched
    teardown = ended.exited - result["finished"]
    inside = sum(result["row"].get(f"{phase}_time_s", 0.0) for phase in PHASES)
    return {
        "wall_time_s": wall,
        "startup_time_s": startup,
        "teardown_time_s": teardown,
        "unaccounted_time_s": wall - startup - inside - teardown,
    }
