"""How many of the planned cells are ok, and how the others ended: said before anything else."""

from collections import Counter
from collections.abc import Iterable, Sequence

from bench.columns import STATUSES
from bench.report.merge import OPEN, Cell, Source
from bench.report.taint import REASONS, UNCHECKED, is_tainted, names


def sentence(statuses: Iterable[str]) -> str:
    """For example "37 of 40 cells ok, 2 diverged, 1 skipped"."""
    count = Counter(statuses)
    others = [status for status in (*STATUSES, OPEN) if status != "ok" and count[status]]
    detail = "".join(f", {count[status]} {status}" for status in others)
    return f"{count['ok']} of {count.total()} cells ok{detail}"


def notes(sources: Sequence[Source], cells: Sequence[Cell]) -> list[str]:
    """What the count leaves out, and what is not to be taken at face value: a sentence each."""
    return [
        *(note for source in sources for note in _left_out(source)),
        *_tainted(cells),
        *_unchecked(cells),
    ]


def _left_out(source: Source) -> list[str]:
    found = []
    if source.unplanned:
        found.append(
            f"{source.name}: runs.csv has {_cells(source.unplanned)} that plan.csv no longer names "
            "or did not select; not counted and not summarised."
        )
    if source.copies:
        found.append(
            f"{source.name}: the same run of {_cells(source.copies)} lies in another folder as "
            "well, or was run again there; counted there."
        )
    return found


def _tainted(cells: Sequence[Cell]) -> list[str]:
    tainted = [cell for cell in cells if is_tainted(cell)]
    if not tainted:
        return []
    reasons = sorted({name for cell in tainted for name in names(cell.text(REASONS))})
    why = f" ({', '.join(reasons)})" if reasons else ""
    return [f"Something from outside disturbed the timings of {_cells(len(tainted))}{why}."]


def _unchecked(cells: Sequence[Cell]) -> list[str]:
    """Of ok cells alone: the others' timings stand nowhere."""
    count = Counter(name for cell in cells if cell.ok for name in set(names(cell.text(UNCHECKED))))
    if not count:
        return []
    checks = ", ".join(f"{name} on {_cells(count[name])}" for name in sorted(count))
    return [f"Some checks for disturbance from outside could not be made: {checks}."]


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
