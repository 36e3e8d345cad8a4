"""One process that made several runs: each as if it had been a process of its own."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from bench.launch.job import Exit
from bench.records.cells import Cell

OF_PROCESS = "host_rss_peak_mib"  # what is known of the process, and holds for each of its runs
OF_LIMITS = ("memory_limit_gib", "timeout_limit_s", "heartbeat_limit_s")
ENDED_FIRST = ("oom", "oom_killed", "timeout", "crashed", "interrupted")


def by_process(cells: Sequence[Cell]) -> dict[Cell, list[Cell]]:
    """Each cell that is launched, with all those that its process makes a run of: it comes first.

    A program with `trials` makes those of an arm in one process; any other cell is by itself.
    """
    processes: dict[Cell, list[Cell]] = {}
    first: dict[str, Cell] = {}
    for cell in cells:
        program = cell.spec.program
        if program is not None and program.trials:
            processes.setdefault(first.setdefault(cell.spec.arm_id, cell), []).append(cell)
        else:
            processes[cell] = [cell]
    return processes


def runs_in(
    ended: Exit, result: dict[str, Any], shared_clock: bool
) -> Iterator[tuple[Exit, dict[str, Any]]]:
    """The end and the result of each run, in order.

    A run that another one follows has ended well. Together they take the time of the process: the
    first its start, the last its end. `shared_clock`: whether its stamps are of our clock.
    """
    runs = result["trials"]
    any_failed = any(run["status"] not in ("ok", "diverged") for run in runs)
    for number, run in enumerate(runs, start=1):
        row = {**run["row"], OF_PROCESS: result["row"].get(OF_PROCESS)}
        of_run, of_end = {**result, **run, "row": row}, ended
        if number < len(runs):
            of_end = replace(of_end, ended_by="itself", code=0, oom_killed=False, stopped_why=None)
            if shared_clock:
                of_run |= {"finished": run["end"]}
                of_end = replace(of_end, exited=run["end"])
        elif ended.code == 1 and any_failed:  # so it says that one of them failed
            of_end = replace(of_end, code=0)
        if number > 1 and shared_clock:
            of_run |= {"started": run["begin"]}
            of_end = replace(of_end, launched=run["begin"])
        yield of_end, of_run


def shared_out(rows: Sequence[dict[str, Any]], n_cells: int) -> list[dict[str, Any]]:
    """A row for each cell: of the runs that were made, then of those that never began."""
    last = rows[-1]
    failed = last["status"] in ENDED_FIRST
    why = last["reason"] if failed else "it ended by itself"
    missing = {
        **{key: last.get(key) for key in OF_LIMITS},
        "status": last["status"] if failed else "crashed",
        "reason": f"{why}; its process had begun {len(rows)} of the {n_cells} runs to make",
        "stage": last["stage"],
    }
    return [*rows[:n_cells], *(missing.copy() for _ in range(n_cells - len(rows)))]
