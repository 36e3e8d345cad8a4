"""looks.csv: which interim look at a folder's results this is.

Whoever looks after each new seed and stops when the interval suits finds a difference between equal
arms sooner or later. Each look at other figures is therefore counted, and tested at a smaller α.

Whoever runs a claim anew in another folder looks as well. Such looks are noted in the user's cache
and told to the person who asks for a report; the report itself is the same on every machine.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.errors import RecordError
from bench.records.cache import cache_folder
from bench.records.rows import Row, append_row, read_table, write_table
from bench.report.built import Looked
from bench.report.family import Comparison, Family
from bench.statistics.ends import Ends

FILE = "looks.csv"
NUMBER = re.compile(r"[1-9][0-9]{0,8}")
COLUMNS: dict[str, str] = {
    "look": "1, 2, ...",
    "figures_sha256": "of the claim and of all figures that it was tested on",
    "metric": "what was tested",
    "n_seeds": "pairs of seeds of the arm that had most; without pairs, its runs",
    "looked_at": "UTC, ISO 8601",
}


# Of the one in the cache: every look of this user.
OF_USER: dict[str, str] = {
    "claim_sha256": "of what was claimed: arms, baseline, metric, margin",
    "figures_sha256": COLUMNS["figures_sha256"],
    "folders": "the results folders, as JSON",
    "looked_at": COLUMNS["looked_at"],
}


def fingerprint(families: Sequence[Family]) -> str | None:
    """SHA-256 over what verdicts are drawn from; None if there are none, so that nothing is spent.

    The same figures make the same look, however often and wherever the report is built, and in
    whatever order its folders are named.
    """
    return _sha256(
        families,
        lambda each: [
            each.arm.arm_id,
            *(sorted(group.items()) for group in each.contrast.groups),
            _failures(each.ends),
        ],
    )


def claim_fingerprint(families: Sequence[Family]) -> str | None:
    """SHA-256 over what is claimed of which arms, with any figures; None: nothing is tested."""
    return _sha256(families, lambda each: each.arm.arm_id)


def _sha256(families: Sequence[Family], of: Callable[[Comparison], Any]) -> str | None:
    """Over the tested families with that of each comparison, in whatever order they come."""
    lines = sorted(
        json.dumps(
            [
                [family.baseline.arm_id, family.metric, family.margin, *family.asked],
                sorted(map(of, family.comparisons)),
            ]
        )
        for family in families
        if family.is_tested
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest() if lines else None


def _failures(ends: Ends) -> list[int] | list[tuple[str, str, int]]:
    """How seeds ended; five zeros where none failed, as the first versions wrote it."""
    told = sorted((str(new), str(base), n) for (new, base), n in ends.count.items() if n)
    return told if ends.failed_new or ends.failed_base else [0, 0, 0, 0, 0]


def look_number(folders: Sequence[Path], figures: str | None) -> int:
    """That of these figures, if they were seen before; else the next after all earlier looks.

    Raises:
        RecordError: for a looks.csv that is damaged.
    """
    seen: dict[str, int] = {}
    for folder in folders:
        for row in _rows(folder / FILE):
            figures_then = row["figures_sha256"]
            seen[figures_then] = max(int(row["look"]), seen.get(figures_then, 0))
    if figures in seen:
        return seen[figures]
    return 1 + max(seen.values(), default=0)


def _rows(path: Path) -> list[Row]:
    rows = read_table(path)
    if path.is_file() and not rows:  # it is written with its first row
        raise RecordError(
            f"{path} is damaged: it holds no interim look. Bring it back, or remove it."
        )
    if not all(row.get("figures_sha256") and NUMBER.fullmatch(row.get("look", "")) for row in rows):
        raise RecordError(
            f"{path} has a row without the number of an interim look (1, 2, ...) or without the "
            "hash of its figures. Put the row right: if it is removed, that look is not counted."
        )
    return rows


def note_look(folders: Sequence[Path], families: Sequence[Family]) -> list[Path]:
    """Write the look down in each folder that lacks it; the folders that could not be written."""
    figures = fingerprint(families)
    if figures is None:
        return []
    unnoted = []
    for folder in folders:
        rows = _rows(folder / FILE)
        if any(row["figures_sha256"] == figures for row in rows):
            continue
        row = {
            "look": families[0].look,
            "figures_sha256": figures,
            "metric": " ".join(dict.fromkeys(family.metric for family in families)),
            "n_seeds": max(each.contrast.n for one in families for each in one.comparisons),
            "looked_at": _now(),
        }
        try:
            write_table(folder / FILE, COLUMNS, [*rows, row])
        except OSError:
            unnoted.append(folder)
    return unnoted


def note_for_user(folders: Sequence[Path], look: Looked) -> list[str]:
    """Note a look in the user's cache; the other folders in which the same claim was looked at.

    Raises:
        RecordError: for a ledger that is damaged, or cannot be written.
    """
    path = cache_folder() / FILE
    here = [str(folder.resolve()) for folder in folders]
    rows = [row for row in read_table(path) if row["claim_sha256"] == look.claim]
    elsewhere: dict[str, None] = {}
    for row in rows:
        there = json.loads(row["folders"])
        if not set(there) & set(here):
            elsewhere |= dict.fromkeys(there)
    noted = {"claim_sha256": look.claim, "figures_sha256": look.figures}
    noted["folders"] = json.dumps(here)
    if not any(all(row[key] == noted[key] for key in noted) for row in rows):
        try:
            append_row(path, OF_USER, {**noted, "looked_at": _now()})
        except OSError as error:
            raise RecordError(f"{path} cannot be written: {error.strerror}.") from error
    return list(elsewhere)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
