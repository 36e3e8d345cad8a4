"""Results folders -> the planned cells of all of them, each with its terminal row and curve."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.columns import STATUSES
from bench.errors import FolderError
from bench.folder import ResultsFolder
from bench.records import Row, bounded, terminal
from bench.report import kinds
from bench.report.kinds import WHOLE
from bench.report.reading import (
    NO_CURVE,
    Curve,
    Damage,
    UnreadableError,
    Which,
    read_curves,
    read_rows,
)

OPEN = "open"  # a selected cell without a row: not run yet

PLAN_NEEDS = ("run_id", "arm_id", "model", "optimizer", "device", "seed", "selected")
RUNS_NEED = ("run_id", "host_id", "attempt", "status")


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
    part: str = ""  # trial, tuned, or empty for a cell of the matrix itself
    tuned_optimizer: str = ""  # of a trial or tuned cell: the matrix's name of what is tuned
    trial: str = ""  # of these: whose settings it has; empty where not known
    twin: str = ""  # the tuned optimizer that it runs for as well: none was better than this one

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
    damage: tuple[Damage, ...] = ()  # one a damaged file; what it names is not in the cells


def as_number(text: str) -> float | None:
    """A field as a finite number; None if it is empty, infinite or not a number at all.

    An infinite loss has no mean and no place in a picture; its row says `diverged`.
    """
    if not text:
        return None
    value = float(text)
    return bounded(value) if math.isfinite(value) else None


def merge(folders: Sequence[Path]) -> Merged:
    """Read folders in the order given; one that is named twice is read once.

    Damaged lines are left out, and a folder without a usable header as well if another remains.

    Raises:
        FolderError: for a folder that is not a results folder.
        RecordError: if no folder can be read.
    """
    paths = list({path.resolve(): path for path in folders}.values())
    read: list[_Folder] = []
    damage: list[Damage] = []
    refused: list[UnreadableError] = []
    for path, name in zip(paths, _names(paths), strict=True):
        try:
            folder = _read_folder(len(read), path, name)
        except UnreadableError as error:
            why = f"{error.why}; the whole folder is left out"
            damage.append(Damage(f"{name}/{error.file}", 0, 0, why))
            refused.append(error)
        else:
            read.append(folder)
            damage += folder.damage
    if refused and not read:
        raise refused[0]
    return replace(_without_copies(read), damage=tuple(damage))


@dataclass(frozen=True)
class _Folder:
    source: Source
    cells: list[Cell]
    superseded: set[tuple[str, ...]]  # identities of the rows that a later attempt replaced
    damage: list[Damage]


def _read_folder(index: int, path: Path, name: str) -> _Folder:
    folder = ResultsFolder(path)
    for file in (folder.plan, folder.runs):
        _must_be_there(file)
    plan, wrong_plan = read_rows(folder.plan, name, PLAN_NEEDS, _check_planned)
    runs, wrong_runs = read_rows(folder.runs, name, RUNS_NEED, _check_ended)
    curves, wrong_curves = read_curves(folder.curves, name)
    selected: dict[str, Row] = {}
    twins: dict[str, str] = {}
    for row in plan:
        if row["selected"] != "true":
            continue
        if row["run_id"] in selected and row.get("part") == "tuned":
            twins[row["run_id"]] = row["optimizer"]
        else:
            selected[row["run_id"]] = row
    attempts: dict[str, list[Row]] = defaultdict(list)
    for row in runs:
        attempts[row["run_id"]].append(row)
    for rows in attempts.values():
        rows.sort(key=lambda row: int(row["attempt"]))
    last = {run_id: terminal(rows) for run_id, rows in attempts.items()}
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
    cells = [
        _cell(index, planned, twins.get(run_id, ""), last.get(run_id), curves)
        for run_id, planned in selected.items()
    ]
    superseded = {
        _identity(row) for rows in tried for row in rows if row is not last[row["run_id"]]
    }
    return _Folder(source, cells, superseded, [*wrong_plan, *wrong_runs, *wrong_curves])


def _cell(
    index: int, planned: Row, twin: str, last: Row | None, curves: Mapping[Which, Curve]
) -> Cell:
    which = (last["run_id"], last["host_id"], last["attempt"]) if last else None
    return Cell(
        source=index,
        **{key: planned[key] for key in ("run_id", "arm_id", "model", "optimizer", "device")},
        seed=WHOLE.read(planned["seed"]),
        row=last,
        curve=curves.get(which, NO_CURVE) if which else NO_CURVE,
        **{key: planned.get(key, "") for key in ("part", "tuned_optimizer", "trial")},
        twin=twin,
    )


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


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise FolderError(
            f"{path.parent} is no results folder: it has no {path.name}. Give a folder that "
            "`python -m bench run MATRIX` has written, such as results/NAME."
        )


def _check_planned(row: Row) -> None:
    kinds.required(row, "seed")
    kinds.check(row)


def _check_ended(row: Row) -> None:
    kinds.required(row, "attempt")
    if row["status"] not in STATUSES:
        raise ValueError(f"status is {row['status']!r}; known are {', '.join(STATUSES)}")
    kinds.check(row)


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
