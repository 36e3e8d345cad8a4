"""How many of the planned cells are ok, and how the others ended: said before anything else."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from bench.merge.disturbed import REASONS, UNCHECKED, beside_notes, is_disturbed, names
from bench.merge.merging import OPEN, EndedCell, Merged
from bench.merge.reading import Damage
from bench.merge.sections import failures, tried
from bench.merge.source import Source
from bench.records.columns import COLUMNS, STATUSES
from bench.records.kinds import NUMBER
from bench.records.rows import LARGEST_FIGURE
from bench.statistics.text import counted

NUMBERS = [name for name, column in COLUMNS.items() if column.kind.dtype == NUMBER.dtype]

_runs = partial(counted, what="run")


def sentence(statuses: Iterable[str]) -> str:
    """For example "37 of 40 runs ok, 2 diverged, 1 skipped"."""
    count = Counter(statuses)
    others = [status for status in (*STATUSES, OPEN) if status != "ok" and count[status]]
    detail = "".join(f", {count[status]} {status}" for status in others)
    return f"{count['ok']} of {count.total()} runs ok{detail}"


def notes(merged: Merged) -> list[str]:
    """What the count leaves out, and what is not to be taken at face value: a note each."""
    return [
        *map(damage_note, merged.damage),
        *(note for source in merged.sources for note in _left_out(source)),
        *_earlier(merged.cells),
        *_retried(merged.cells),
        *_bounded(merged.cells),
        *_disturbed(merged.cells),
        *_unchecked(merged.cells),
        *beside_notes(merged.cells),
    ]


def damage_note(damage: Damage) -> str:
    """What of a file could not be read and was left out."""
    if not damage.line:
        return f"{damage.file} is damaged: {damage.why}."
    first = f"line {damage.line}" if damage.lines == 1 else f"the first is line {damage.line}"
    return (
        f"{damage.file}: {counted(damage.lines, 'damaged line')} left out, {first} ({damage.why}). "
        f"{_consequence(damage.file)} Put it right or remove it, and report again."
    )


def _consequence(file: str) -> str:
    """What readers of the figures must know of a line that is missing there."""
    if file.endswith("runs.csv"):
        return "A run without another row counts as open."
    if file.endswith("plan.csv"):
        return "A run without its line here counts only if it was made."
    return "Curves lack these evaluations."


def _left_out(source: Source) -> Iterator[str]:
    if source.unplanned:
        yield (
            f"{source.name}: runs.csv has {_runs(source.unplanned)} that plan.csv no longer names "
            "or did not select; not counted and not summarised."
        )
    if source.dropped:
        yield (
            f"{source.name}: {_runs(source.dropped)} had seeds that the plan no longer names; "
            "counted, for a seed cannot be left out once it has run."
        )
    if source.dropped_arms:
        yield (
            f"{source.name}: {counted(len(source.dropped_arms), 'configuration')} ran that the "
            "plan no longer names: not shown, and counted among the comparisons."
        )
    if source.copies:
        yield (
            f"{source.name}: {_runs(source.copies)} lie in another folder as well, or were "
            "brought to an end there; counted there."
        )


def _earlier(cells: Sequence[EndedCell]) -> Iterator[str]:
    """Of cells that ran under several codes, environments or machines in one folder."""
    several = len({(cell.source, cell.run_id) for cell in cells if cell.earlier})
    if several:
        yield (
            f"{_runs(several)} got another attempt under another code, environment or machine: "
            "each is in the section of its like, and the latest is the one that is counted."
        )


def _retried(cells: Sequence[EndedCell]) -> Iterator[str]:
    """Of seeds that finished at one attempt and failed at another."""
    failed = failures(cells)
    finished = {tried(cell) for cell in cells for row in cell.attempts if row["status"] == "ok"}
    both = len(failed.keys() & finished)
    if both:
        yield (
            f"{_runs(both)} failed at one attempt and ended ok at another, under the same "
            "settings, code and environment: counted as failed."
        )


def _bounded(cells: Sequence[EndedCell]) -> Iterator[str]:
    """Of the terminal rows alone: nothing is computed from the others."""
    found = [named for cell in cells if cell.row and (named := _beyond(cell))]
    if found:
        columns = ", ".join(sorted({column for named in found for column in named}))
        yield (
            f"Figures beyond {LARGEST_FIGURE:g} count as {LARGEST_FIGURE:g} here, in "
            f"{_runs(len(found))}: {columns}."
        )


def _beyond(cell: EndedCell) -> list[str]:
    """The figures of a sound row that are finite and too large for statistics."""
    names = (*NUMBERS, *cell.setup.declared)
    values = ((name, float(text)) for name in names if (text := cell.text(name)))
    return [name for name, value in values if LARGEST_FIGURE < abs(value) < math.inf]


def _disturbed(cells: Sequence[EndedCell]) -> Iterator[str]:
    disturbed = [cell for cell in cells if is_disturbed(cell)]
    if disturbed:
        reasons = sorted({name for cell in disturbed for name in names(cell.text(REASONS))})
        why = f" ({', '.join(reasons)})" if reasons else ""
        yield f"Something from outside disturbed the timings of {_runs(len(disturbed))}{why}."


def _unchecked(cells: Sequence[EndedCell]) -> Iterator[str]:
    """Of ok cells alone: the others' timings stand nowhere."""
    count = Counter(name for cell in cells if cell.ok for name in set(names(cell.text(UNCHECKED))))
    if count:
        checks = ", ".join(f"{name} on {_runs(count[name])}" for name in sorted(count))
        yield f"Some checks for disturbance from outside could not be made: {checks}."
