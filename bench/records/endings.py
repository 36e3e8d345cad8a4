"""How a cell ended, and whether that counts. Run, plan, report, compare and merge all ask here.

Several attempts at one cell are told by one row, and no later attempt washes a failure away: a
seed that was run until it finished has not finished, it has failed and been chosen.
"""

from collections.abc import Iterable, Mapping, Sequence

from bench.border.circumstances import Circumstances
from bench.records.columns import SETTLED
from bench.records.rows import Row
from bench.statistics.ends import End

# In the words of CUDA's runtime and of the C library. In rows of today they come after CELL_SAYS,
# for a class can say anything, unless the launching side saw the fault as well.
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

# How the reason of an attempt begins that ended with its GPU, by evidence from outside the cell.
GPU_FAILED = "the GPU failed: "

# In a reason, before words of the cell itself.
CELL_SAYS = "the cell says: "
LOG_TAIL = "; its log ends: "


def kind_of_machine(row: Mapping[str, str | None]) -> str:
    """What of the machine that a run was made on decides its losses; its GPU's name is apart.

    On a GPU nothing else does, so that it is empty. On a CPU its instruction sets do, by which
    libraries choose kernels; where neither is known, machines are told apart one by one.
    """
    if row.get("device") == "cuda" and row.get("gpu_name"):
        return ""
    return row.get("cpu_isa") or row.get("host_id") or ""


def circumstances(row: Row) -> Circumstances:
    """What a run was made under, on any machine of its kind."""
    told = Circumstances(*(row.get(name, "") for name in Circumstances._fields))
    return told._replace(host_id=kind_of_machine(row))


def is_machines_fault(status: str, reason: str) -> bool:
    """Whether the machine failed, and not the cell: another attempt may well succeed."""
    if status == "interrupted":
        return reason.startswith(GPU_FAILED)
    said = reason.partition(LOG_TAIL)[0].partition(CELL_SAYS)[0]
    told = said.startswith(KILLED) or any(text in said for text in MACHINE_FAULTS)
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


def end_by(failed: str | None) -> End:
    """Of a seed that ended, by the status with which it failed; None: it did not fail."""
    if failed is None:
        return End.FINISHED
    return End.DIVERGED if failed == "diverged" else End.FAILED


def ending(attempts: Sequence[Row]) -> Row | None:
    """The one of a cell's attempts, in the same circumstances, that tells how it ended.

    `attempts`: oldest first. A failure stays: the last one that diverged, else the last that
    crashed by its own doing or went beyond a limit, unless an ok one with a raised limit makes that
    good. Then the first ok one: what was run again after it had finished was run by choice. Then
    the last that a fault of the machine ended, and the last of the others, which leave a cell as it
    was. None if there is no attempt.
    """
    ok = [row for row in attempts if row["status"] == "ok"]
    diverged = [row for row in attempts if end_of(row) is End.DIVERGED]
    failed = [
        row
        for row in attempts
        if end_of(row) is End.FAILED and not any(_makes_good(good, row) for good in ok)
    ]
    settled = [row for row in attempts if row["status"] in SETTLED]
    candidates = diverged or failed or ok[:1] or settled or attempts
    return candidates[-1] if candidates else None


def _makes_good(good: Row, failed: Row) -> bool:
    """Whether an ok attempt had more of the limit that another ran out of."""
    limit = limit_of(failed)
    now, then = (row.get(limit, "") for row in (good, failed))
    return bool(now and then) and float(now) > float(then)  # an older row does not tell


def limit_of(failed: Row) -> str:
    """The column of the limit that a failed attempt went beyond; empty if it was none of ours."""
    match failed["status"]:
        case "oom" if failed.get("device") == "cuda":
            return ""  # a GPU has the memory that it has
        case "oom" | "oom_killed":
            return "memory_limit_gib"
        case "timeout":
            hung = "heartbeat_s" in failed.get("reason", "")
            return "heartbeat_limit_s" if hung else "timeout_limit_s"
        case _:
            return ""


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
