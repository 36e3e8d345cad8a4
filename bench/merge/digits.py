"""Whether machines of one kind gave the same losses, to the last digit, where runs tell it."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from bench.merge.sections import Section
from bench.records.rows import Row, as_number

LOSS = "val_loss_final"


@dataclass(frozen=True)
class Digits:
    """Runs that ended ok on two machines or more, under the same code and environment."""

    runs: int
    equal: int  # of these, with the same final validation loss on all
    largest: float  # difference of two machines in a run's final validation loss, nats per token


def digits_of(section: Section) -> Digits | None:
    """None where no run ended on two machines."""
    found = [losses for losses in _by_run(section) if len(losses) > 1]
    if not found:
        return None
    apart = [max(losses.values()) - min(losses.values()) for losses in found]
    return Digits(len(found), apart.count(0.0), max(apart))


def _by_run(section: Section) -> Iterable[dict[str, float]]:
    """Of each run the loss by host_id, of its first ok attempt there."""
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for cell in section.cells:
        for row in filter(_is_ok, cell.attempts):
            loss = as_number(row.get(LOSS, ""))
            if loss is not None:
                found[cell.run_id].setdefault(row["host_id"], loss)
    return found.values()


def _is_ok(row: Row) -> bool:
    return row["status"] == "ok"
