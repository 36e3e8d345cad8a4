"""looks.csv: which look at a folder's results this is.

Whoever looks after each new seed and stops when the interval suits finds a difference between equal
arms sooner or later. Each look at other figures is therefore counted, and tested at a smaller α.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench.errors import RecordError
from bench.records import read_table, write_table
from bench.report.family import Family

FILE = "looks.csv"
COLUMNS: dict[str, str] = {
    "look": "1, 2, ...",
    "figures_sha256": "of the claim and of all figures that it was tested on",
    "metric": "what was tested",
    "n_seeds": "pairs of seeds of the arm that had most",
    "looked_at": "UTC, ISO 8601",
}


def fingerprint(families: Sequence[Family]) -> str | None:
    """SHA-256 over what verdicts are drawn from; None if there are none, so that nothing is spent.

    The same figures make the same look, however often and wherever the report is built.
    """
    tested = [family for family in families if family.is_tested]
    if not tested:
        return None
    content = [
        [
            [family.baseline.arm_id, family.metric, family.margin],
            [
                [
                    comparison.arm.arm_id,
                    sorted(comparison.contrast.by_seed.items()),
                    dataclasses.astuple(comparison.diverged),
                ]
                for comparison in family.comparisons
            ],
        ]
        for family in tested
    ]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def look_number(folders: Sequence[Path], figures: str | None) -> int:
    """That of these figures, if they were seen before; else the next after all earlier looks."""
    seen: dict[str, int] = {}
    for folder in folders:
        for row in read_table(folder / FILE):
            try:
                number = int(row["look"])
            except (KeyError, ValueError):
                raise RecordError(
                    f"{folder / FILE} has a row without a look's number. Put it right."
                ) from None
            seen[row["figures_sha256"]] = max(number, seen.get(row["figures_sha256"], 0))
    if figures in seen:
        return seen[figures]
    return 1 + max(seen.values(), default=0)


def note_look(folders: Sequence[Path], families: Sequence[Family]) -> list[Path]:
    """Write the look down in each folder that lacks it; the folders that could not be written."""
    figures = fingerprint(families)
    if figures is None:
        return []
    unnoted = []
    for folder in folders:
        rows = read_table(folder / FILE)
        if any(row["figures_sha256"] == figures for row in rows):
            continue
        row = {
            "look": families[0].look,
            "figures_sha256": figures,
            "metric": families[0].metric,
            "n_seeds": max(each.contrast.n for one in families for each in one.comparisons),
            "looked_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        try:
            write_table(folder / FILE, COLUMNS, [*rows, row])
        except OSError:
            unnoted.append(folder)
    return unnoted
