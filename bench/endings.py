"""How a cell ended, and whether that counts. Run, plan, report, compare and merge all ask here.

Several attempts at one cell are told by one row, and no later attempt washes a failure away: a
seed that was run until it finished has not finished, it has failed and been chosen.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

from bench.columns import SETTLED
from bench.records import Row

# In the words of CUDA's runtime and of the C library.
MACHINE_FAULTS = (
    "uncorrectable ECC error",
    "fallen off the bus",
    "GPU is lost",
    "busy or unavailable",
    "No space left on device",
    "Input/output error",
)
# How a reason begins after a signal of somebody else. Others (SIGSEGV, SIGABRT, SIGBUS, SIGFPE,
# SIGILL) are a cell's own doing.
KILLED = ("ended by SIGKILL", "ended by SIGTERM")

# What must have been raised for an ok attempt to make good an earlier one that ran out of it.
OF_MEMORY, OF_TIME = ("memory_limit_gib",), ("timeout_limit_s", "heartbeat_limit_s")
LIMITS = {"oom": OF_MEMORY, "oom_killed": OF_MEMORY, "timeout": OF_TIME}
LIMIT_COLUMNS = (*OF_MEMORY, *OF_TIME)


class End(StrEnum):
    """How one seed of an arm ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"  # ranks below every finished one
    FAILED = "failed"  # by its own doing: it crashed, or went beyond a limit
    MISSING = "missing"  # open, interrupted, skipped, or lost to a fault of the machine


class Circumstances(NamedTuple):
    """What attempts must share to be attempts at the same thing."""

    code_sha256: str
    env_id: str
    gpu_name: str
    host_id: str


def circumstances(row: Row) -> Circumstances:
    return Circumstances(*(row.get(name, "") for name in Circumstances._fields))


def is_machines_fault(status: str, reason: str) -> bool:
    """Whether the machine failed, and not the cell: another attempt may well succeed."""
    told = reason.startswith(KILLED) or any(text in reason for text in MACHINE_FAULTS)
    return status == "crashed" and told


def end_of(row: Row | None) -> End:
    """What a row says of its seed; None: there is no row."""
    if row is None or row["status"] not in SETTLED:
        return End.MISSING
    if row["status"] == "ok":
        return End.FINISHED
    if row["status"] == "diverged":
        return End.DIVERGED
    lost = is_machines_fault(row["status"], row.get("reason", ""))
    return End.MISSING if lost else End.FAILED


def ending(attempts: Sequence[Row]) -> Row | None:
    """The one of a cell's attempts, in the same circumstances, that tells how it ended.

    `attempts`: oldest first. A failure stays: the last one that diverged, else the last that
    crashed by its own doing or went beyond a limit, unless an ok one with a raised limit makes that
    good. Then the last ok one, the last that a fault of the machine ended, and the last of the
    others, which leave a cell as it was. None if there is no attempt.
    """
    ok = [row for row in attempts if row["status"] == "ok"]
    diverged = [row for row in attempts if end_of(row) is End.DIVERGED]
    failed = [
        row
        for row in attempts
        if end_of(row) is End.FAILED and not any(_makes_good(good, row) for good in ok)
    ]
    settled = [row for row in attempts if row["status"] in SETTLED]
    candidates = diverged or failed or ok or settled or attempts
    return candidates[-1] if candidates else None


def _makes_good(good: Row, failed: Row) -> bool:
    """Whether an ok attempt had more of what another ran out of, and no less of the rest."""
    if failed["status"] not in LIMITS:
        return False
    limits = [(good.get(name), failed.get(name)) for name in LIMITS[failed["status"]]]
    known = [(float(now), float(then)) for now, then in limits if now and then]
    if len(known) < len(limits):
        return False  # an older row does not tell its limits
    return all(now >= then for now, then in known) and any(now > then for now, then in known)


def by_circumstances(attempts: Iterable[Row]) -> list[list[Row]]:
    """A cell's attempts, oldest first, apart by circumstances; those that ran latest are last.

    An attempt that never came to run (skipped) has none of its own: it is by itself, first.
    """
    groups: dict[Circumstances, list[Row]] = {}
    for row in attempts:
        key = circumstances(row)
        if row["status"] in SETTLED:
            groups[key] = [*groups.pop(key, []), row]  # to the end
        else:
            groups.setdefault(key, []).append(row)
    settled = [rows for rows in groups.values() if any(row["status"] in SETTLED for row in rows)]
    return settled or list(groups.values())[-1:]
