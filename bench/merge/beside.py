"""Cells that ran beside others of their run: on CPUs of their own, but not alone on the machine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from bench.merge.merging import EndedCell

COLUMN = "neighbours"


def notes(cells: Iterable[EndedCell]) -> list[str]:
    """What a reader of timings must know of them; nothing where every cell was alone."""
    told = [cell for cell in cells if cell.ok and cell.text(COLUMN)]
    beside = [cell for cell in told if _was_beside(cell)]
    if not beside:
        return []
    of = f"{len(beside)} of {len(told)} ok cells" if len(beside) < len(told) else "All ok cells"
    shared = (
        f"{of} ran beside others of their run, on CPUs of their own: caches, memory and clock were "
        "shared, and times include what that costs."
    )
    mixed = _mixed(told)
    if not mixed:
        return [shared]
    return [shared, f"Times of {', '.join(mixed)} mix such cells with cells that ran alone."]


def _was_beside(cell: EndedCell) -> bool:
    return bool(cell.number(COLUMN))


def _mixed(told: Sequence[EndedCell]) -> list[str]:
    """Arms with both kinds of cells on one machine."""
    kinds: dict[tuple[str, str], set[bool]] = defaultdict(set)
    labels: dict[tuple[str, str], str] = {}
    for cell in told:
        arm = cell.arm_id, cell.text("host_id")
        kinds[arm].add(_was_beside(cell))
        labels[arm] = f"{cell.model} + {cell.optimizer}, {cell.device}"
    return list(dict.fromkeys(labels[arm] for arm, found in kinds.items() if len(found) > 1))
