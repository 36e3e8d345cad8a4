"""One attempt at one cell: launched, watched, judged; its row, and its evidence on the disk."""

import errno
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from bench.border.atomic import write_atomically
from bench.errors import EngineError
from bench.launch.job import Exit, Job, Launcher, Stop, read_left
from bench.measure import figures, samples, taint
from bench.measure.figures import Phases
from bench.measure.watch import Readings, Watch
from bench.records.rows import write_table
from bench.run import outcome

DISK_FAILED = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def run_attempt(
    job: Job,
    launcher: Launcher,
    on_event: Callable[[dict[str, Any]], None],
    stop: Stop,
    sample_ms: float,
) -> dict[str, Any]:
    """Run a cell to its end, whatever that is; its columns of runs.csv, but for what the cell is.

    Raises:
        EngineError: if the engine failed, so that nothing can be said of the cell.
        OSError: if the disk does not take its evidence.
    """
    with Watch(job.gpu_uuid, job.cpus, sample_ms / 1000, on_event) as watch:
        try:
            ended = launcher.run(job, watch, stop)
        except EngineError as error:  # it may be no fault of the engine
            raise EngineError(f"{error}{outcome.full_disk(job)}") from error
    judged = outcome.judge(job, ended)
    row = judged.columns | figures.columns(watch.readings, judged.phases)
    disturbed = taint.judge(watch.readings, judged.phases, row)
    row |= {
        "tainted": disturbed.tainted,
        "taint_reasons": disturbed.reasons,
        "taint_unchecked": disturbed.unchecked,
        "memory_limit_gib": job.limits.memory_gib,
        "timeout_limit_s": job.limits.timeout_s,
        "heartbeat_limit_s": job.limits.heartbeat_s,
        "memory_limit_enforced": launcher.enforces_memory,
    }
    try:
        _leave_evidence(job, ended, watch.readings, judged.phases)
    except OSError as error:
        if error.errno in DISK_FAILED:
            raise
        # The worker owns its folder, and left something in the way.
        row |= {"status": "crashed", "reason": f"its folder cannot be written: {error}"}
    return row


def _leave_evidence(job: Job, ended: Exit, readings: Readings, phases: Phases) -> None:
    """samples.csv, and what the readings rest on beside the worker's own account in env.json."""
    rows = samples.rows(readings, ended.launched, phases.train)
    write_table(job.files.samples, samples.COLUMNS, rows)
    worker = read_left(job.files.env, last=outcome.MAX_RESULT)
    write_atomically(job.files.env, _both_accounts(worker, _account(readings)))


def _both_accounts(worker: str, launcher: dict[str, Any]) -> str:
    """The text of env.json. What the worker left may be cut off, or too deep to read or write."""
    try:
        return json.dumps({"worker": json.loads(worker), "launcher": launcher}, indent=2) + "\n"
    except (ValueError, RecursionError):
        return json.dumps({"worker": {}, "launcher": launcher}, indent=2) + "\n"


def _account(readings: Readings) -> dict[str, Any]:
    return {
        "sample_ms": readings.every_s * 1000,
        "readings_of_gpu": len(readings.gpu),
        "readings_of_host": len(readings.host),
        "gpu_before_launch": asdict(readings.baseline) if readings.baseline else None,
        "not_read": readings.reasons,
    }
