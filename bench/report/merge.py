"""Results folders -> the planned cells of all of them, each with its terminal row and curve."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.columns import STATUSES
from bench.errors import FolderError, RecordError
from bench.folder import ResultsFolder
from bench.records import Row, read_table, terminal
from bench.report.columns import CONSTANTS, METRICS

OPEN = "open"  # a selected cell without a row: not run yet

PLAN_NEEDS = ("run_id", "arm_id", "model", "optimizer", "device", "seed", "selected")
RUNS_NEED = ("run_id", "host_id", "attempt", "status")
CURVES_NEED = ("run_id", "host_id", "attempt", "step", "val_loss")
# Where a change of loss could be read; tokens and seconds may be unknown.
CURVE_FIGURES = ("tokens", "train_time_s", "val_loss")


@dataclass(frozen=True)
class Point:
    """One evaluation during training."""

    step: int
    tokens: float | None  # training tokens seen
    train_time_s: float | None  # training time so far, seconds
    val_loss: float | None  # nats per token


Curve = tuple[Point, ...]  # in order of steps


@dataclass(frozen=True)
class Cell:
    """A selected cell of one folder's plan, as it ended."""

    source: int  # index of its folder
    run_id: str
    arm_id: str
    model: str
    optimizer: str
    device: str
    seed: int
    row: Row | None  # the terminal row; None: open
    curve: Curve

    @property
    def status(self) -> str:
        return self.row["status"] if self.row else OPEN

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def text(self, column: str) -> str:
        """A field of its row; empty if unknown, or if the folder is older than the column."""
        return self.row.get(column, "") if self.row else ""

    def number(self, column: str) -> float | None:
        return as_number(self.text(column))


@dataclass(frozen=True)
class Source:
    """One results folder, and what of it is counted."""

    path: Path
    name: str  # for readers; never a whole path, which would name the machine's folders
    matrices: tuple[str, ...]
    cells: int  # selected
    attempts: int  # rows of the selected cells
    superseded: int  # of these, the rows that a later attempt replaced
    unplanned: int  # cells in runs.csv that the plan does not name or did not select
    copies: int = 0  # cells whose row is in another folder as well, and is counted there


@dataclass(frozen=True)
class Merged:
    sources: tuple[Source, ...]
    cells: tuple[Cell, ...]  # in the order of the plans


def as_number(text: str) -> float | None:
    """A field as a finite number; None if it is empty, infinite or not a number at all.

    An infinite loss has no mean and no place in a picture; its row says `diverged`.
    """
    if not text:
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def merge(folders: Sequence[Path]) -> Merged:
    """Read folders in the order given; one that is named twice is read once.

    Raises:
        FolderError: for a folder that is not a results folder.
        RecordError: for a CSV that is damaged.
    """
    paths = list({path.resolve(): path for path in folders}.values())
    read = [
        _read_folder(index, path, name)
        for index, (path, name) in enumerate(zip(paths, _names(paths), strict=True))
    ]
    return _without_copies(read)


@dataclass(frozen=True)
class _Folder:
    source: Source
    cells: list[Cell]
    superseded: set[tuple[str, ...]]  # identities of the rows that a later attempt replaced


def _read_folder(index: int, path: Path, name: str) -> _Folder:
    folder = ResultsFolder(path)
    plan = _read(folder.plan, PLAN_NEEDS)
    selected = {row["run_id"]: row for row in plan if row["selected"] == "true"}
    attempts: dict[str, list[Row]] = defaultdict(list)
    for row in _read(folder.runs, RUNS_NEED):
        _check_row(folder.runs, row)
        attempts[row["run_id"]].append(row)
    for rows in attempts.values():
        rows.sort(key=lambda row: int(row["attempt"]))
    curves = _curves(folder.curves)
    tried = [attempts[run_id] for run_id in selected if run_id in attempts]
    source = Source(
        path=path,
        name=name,
        matrices=tuple(dict.fromkeys(row["name"] for row in plan if row.get("name"))),
        cells=len(selected),
        attempts=sum(map(len, tried)),
        superseded=sum(map(len, tried)) - len(tried),
        unplanned=len(set(attempts) - set(selected)),
    )
    cells = []
    for run_id, planned in selected.items():
        last = terminal(attempts[run_id]) if run_id in attempts else None
        curve = curves.get((run_id, last["host_id"], last["attempt"]), ()) if last else ()
        seed = _whole(folder.plan, planned["seed"], "seed")
        names = {key: planned[key] for key in ("arm_id", "model", "optimizer", "device")}
        cells.append(Cell(index, run_id, **names, seed=seed, row=last, curve=curve))
    superseded = {_identity(row) for rows in tried for row in rows if row is not terminal(rows)}
    return _Folder(source, cells, superseded)


def _without_copies(folders: Sequence[_Folder]) -> Merged:
    """A row that lies in several folders (a copied folder, an older state of one) counts once.

    Otherwise it would weigh twice among the repeats of its seed.
    """
    superseded = {identity for folder in folders for identity in folder.superseded}
    superseded.discard(())
    seen: set[tuple[str, ...]] = set()
    sources, cells = [], []
    for folder in folders:
        kept = []
        for cell in folder.cells:
            identity = _identity(cell.row) if cell.row else ()
            if identity not in seen and identity not in superseded:
                kept.append(cell)
            if identity:
                seen.add(identity)
        copies = len(folder.cells) - len(kept)
        sources.append(replace(folder.source, cells=len(kept), copies=copies))
        cells += kept
    return Merged(tuple(sources), tuple(cells))


def _identity(row: Row) -> tuple[str, ...]:
    """What no two attempts share: a machine starts a cell once at a moment. () if not known."""
    started = row.get("started_at")
    return (row["run_id"], row["host_id"], row["attempt"], started) if started else ()


def _read(path: Path, needed: Iterable[str]) -> list[Row]:
    """A table that must be there, with the columns without which nothing can be told."""
    if not path.is_file():
        raise FolderError(
            f"{path.parent} is no results folder: it has no {path.name}. Give a folder that "
            "`python -m bench run MATRIX` has written, such as results/NAME."
        )
    return _checked(path, needed)


def _checked(path: Path, needed: Iterable[str]) -> list[Row]:
    rows = read_table(path)
    missing = [name for name in needed if rows and name not in rows[0]]
    if missing:
        raise RecordError(
            f"{path} lacks the columns {', '.join(missing)}. Restore its header line."
        )
    return rows


def _curves(path: Path) -> dict[tuple[str, str, str], Curve]:
    """(run_id, host_id, attempt) -> points. No file: no curves (a run writes it as it ends)."""
    found: dict[tuple[str, str, str], list[Point]] = defaultdict(list)
    for row in _checked(path, CURVES_NEED):
        which = (row["run_id"], row["host_id"], row["attempt"])
        figures = {name: _figure(path, row, name) for name in CURVE_FIGURES}
        found[which].append(Point(step=_whole(path, row["step"], "step"), **figures))
    return {
        which: tuple(sorted(points, key=lambda point: point.step))
        for which, points in found.items()
    }


def _check_row(path: Path, row: Row) -> None:
    _whole(path, row["attempt"], "attempt")
    if row["status"] not in STATUSES:
        raise RecordError(
            f"{path}: run {row['run_id']} has status {row['status']!r}. "
            f"Known: {', '.join(STATUSES)}."
        )
    for column in (*CONSTANTS, *METRICS):
        _figure(path, row, column)


def _figure(path: Path, row: Row, column: str) -> float | None:
    text = row.get(column, "")
    try:
        return as_number(text)
    except ValueError:
        raise RecordError(
            f"{path}: run {row['run_id']}, attempt {row['attempt']}: {column} is {text!r}, not a "
            "number. Put it right, or leave the field empty if it is unknown."
        ) from None


def _whole(path: Path, text: str, column: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise RecordError(
            f"{path}: {column} is {text!r}, not a whole number. Put it right."
        ) from None


def _names(paths: Sequence[Path]) -> list[str]:
    """Folder names for readers; with the parent's, or a number, where two are alike."""
    names = [path.resolve().name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{path.resolve().parent.name}/{path.resolve().name}" for path in paths]
    total, met, unique = Counter(names), Counter[str](), []
    for name in names:
        met[name] += 1
        unique.append(f"{name} ({met[name]})" if total[name] > 1 else name)
    return unique
