"""Results folders -> the planned cells of all of them, each with its attempts and its curve.

A cell that ran under several codes, environments or machines is several: each belongs where its
like are, and the latest is the one that is counted.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.errors import FolderError, program
from bench.merge import kinds
from bench.merge.asked import settings_of
from bench.merge.kinds import WHOLE
from bench.merge.reading import (
    NO_CURVE,
    Curve,
    Damage,
    UnreadableError,
    Which,
    read_curves,
    read_rows,
)
from bench.records.columns import SETTLED, STATUSES
from bench.records.endings import by_circumstances, ending
from bench.records.folder import ResultsFolder
from bench.records.rows import RUNS_NEED, Row, bounded, by_cell

OPEN = "open"  # a selected cell without a row: not run yet

PLAN_NEEDS = ("run_id", "arm_id", "model", "optimizer", "device", "seed", "selected")


@dataclass(frozen=True)
class Cell:
    """A selected cell of one folder's plan, as it ended under one code, environment and machine."""

    source: int  # index of its folder
    run_id: str
    arm_id: str
    model: str
    optimizer: str
    device: str
    seed: int
    row: Row | None  # the attempt that tells how it ended; None: open
    curve: Curve
    attempts: tuple[Row, ...] = ()  # all of them, oldest first
    planned_in: frozenset[int] = frozenset()  # indexes of all folders whose plan selected it
    settings: str = ""  # of training, evaluation and data; empty where not known
    earlier: bool = False  # the same cell ran again under another code, environment or machine
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


Dropped = tuple[str, str, str]  # arm_id, device, settings


@dataclass(frozen=True)
class Source:
    """One results folder, and what of it is counted."""

    path: Path
    name: str  # for readers; never a whole path, which would name the machine's folders
    matrices: tuple[str, ...]
    cells: int  # selected
    attempts: int  # rows of the selected cells
    superseded: int  # of these, the rows that do not tell how their cell ended
    unplanned: int  # cells in runs.csv that the plan does not name or did not select
    dropped: int = 0  # of the cells: seeds that the plan names no more, of arms that it names
    dropped_arms: frozenset[Dropped] = frozenset()  # arms that ran and are in the plan no more
    copies: int = 0  # cells whose rows are in another folder as well, and are counted there


@dataclass(frozen=True)
class Merged:
    sources: tuple[Source, ...]
    cells: tuple[Cell, ...]  # in the order of the plans
    damage: tuple[Damage, ...] = ()  # one a damaged file; what it names is not in the cells

    @property
    def counted(self) -> list[Cell]:
        """Each selected cell once."""
        return [cell for cell in self.cells if not cell.earlier]


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
    return replace(_merged(read), damage=tuple(damage))


@dataclass(frozen=True)
class _Folder:
    index: int
    source: Source
    planned: Mapping[str, Row]  # the selected cells by run_id, in the order of the plan
    twins: Mapping[str, str]
    attempts: Mapping[str, list[Row]]  # of these, oldest first
    curves: Mapping[Which, Curve]
    settings: str  # of its matrix
    damage: list[Damage]


def _read_folder(index: int, path: Path, name: str) -> _Folder:
    folder = ResultsFolder(path)
    for file in (folder.plan, folder.runs):
        _must_be_there(file)
    plan, wrong_plan = read_rows(folder.plan, name, PLAN_NEEDS, _check_planned)
    runs, wrong_runs = read_rows(folder.runs, name, RUNS_NEED, _check_ended)
    curves, wrong_curves = read_curves(folder.curves, name)
    selected, twins = _selected(plan)
    dropped = _dropped(selected, runs)
    names = {selected[run_id]["arm_id"]: name for run_id, name in twins.items()}
    twins |= {
        run_id: names[row["arm_id"]] for run_id, row in dropped.items() if row["arm_id"] in names
    }
    attempts = by_cell(runs)
    source = Source(
        path=path,
        name=name,
        matrices=tuple(dict.fromkeys(row["name"] for row in plan if row.get("name"))),
        cells=len(selected) + len(dropped),
        attempts=0,
        superseded=0,
        unplanned=len(attempts.keys() - selected.keys() - dropped.keys()),
        dropped=len(dropped),
        dropped_arms=_dropped_arms(selected, runs),
    )
    return _Folder(
        index=index,
        source=source,
        planned=selected | dropped,
        twins=twins,
        attempts=attempts,
        curves=curves,
        settings=settings_of(path),
        damage=[*wrong_plan, *wrong_runs, *wrong_curves],
    )


def _selected(plan: Sequence[Row]) -> tuple[dict[str, Row], dict[str, str]]:
    """The selected cells, and of those that run under a second, tuned name that one."""
    selected: dict[str, Row] = {}
    twins: dict[str, str] = {}
    for row in plan:
        if row["selected"] != "true":
            continue
        if row["run_id"] in selected and row.get("part") == "tuned":
            twins[row["run_id"]] = row["optimizer"]
        else:
            selected[row["run_id"]] = row
    return selected, twins


def _dropped(selected: Mapping[str, Row], runs: Sequence[Row]) -> dict[str, Row]:
    """Cells that ran, of arms in the plan, on seeds that were taken out of it since.

    They count like the others: else a seed could be left out for what it showed. Trials have the
    arm_id of what they try, and are no cells of it.
    """
    arms = {row["arm_id"] for row in selected.values() if row.get("part") != "trial"}
    return {
        row["run_id"]: row
        for row in runs
        if row["run_id"] not in selected
        and row.get("arm_id") in arms
        and row.get("part") != "trial"
        and row["status"] in SETTLED
        and all(row.get(name) for name in PLAN_NEEDS if name != "selected")
    }


def _dropped_arms(selected: Mapping[str, Row], runs: Sequence[Row]) -> frozenset[Dropped]:
    """Arms that ran, on the plan's devices and settings, and were taken out of it since.

    Of arms that were compared, none can be left out for what it showed.
    """
    arms = {row["arm_id"] for row in selected.values()}
    return frozenset(
        (row["arm_id"], row.get("device", ""), row.get("settings", ""))
        for row in runs
        if row.get("arm_id") not in arms
        and not row.get("part")
        and row["status"] in SETTLED
        and row.get("arm_id")
    )


@dataclass(frozen=True)
class _Attempt:
    row: Row
    folder: _Folder  # where its curve and its log are


@dataclass(frozen=True)
class _Entry:
    """A cell of one folder with all attempts at it, those of its folder's copies too."""

    folder: _Folder
    run_id: str
    attempts: Mapping[tuple[str, ...], _Attempt]  # by what no two share, oldest first

    @property
    def is_settled(self) -> bool:
        return any(each.row["status"] in SETTLED for each in self.attempts.values())


def _merged(folders: Sequence[_Folder]) -> Merged:
    # A trial of one folder is no cell of another's matrix.
    entries: dict[tuple[str, bool], list[_Entry]] = defaultdict(list)
    planned_in: dict[str, set[int]] = defaultdict(set)
    for folder in folders:
        for run_id, planned in folder.planned.items():
            planned_in[run_id].add(folder.index)
            entry = _Entry(folder, run_id, _attempts(folder, run_id))
            which = run_id, planned.get("part") == "trial"
            entries[which] = _joined(entries[which], entry)
    kept = {(each.folder.index, each.run_id): each for found in entries.values() for each in found}
    sources, cells = [], []
    for folder in folders:
        mine = [kept[key] for run_id in folder.planned if (key := (folder.index, run_id)) in kept]
        made = [cell for each in mine for cell in _cells(each, planned_in[each.run_id])]
        sources.append(_counted(folder.source, mine, made))
        cells += made
    return Merged(tuple(sources), tuple(cells))


def _attempts(folder: _Folder, run_id: str) -> dict[tuple[str, ...], _Attempt]:
    """None for a cell that ran as a trial: what settings were chosen on is not judged on."""
    rows = folder.attempts.get(run_id, [])
    tried = any(row.get("part") == "trial" for row in rows)
    if tried and folder.planned[run_id].get("part") != "trial":
        return {}
    here = (str(folder.index),)  # of a row whose start is not known
    return {
        _identity(row) or (*here, row["attempt"], str(place)): _Attempt(row, folder)
        for place, row in enumerate(rows)
    }


def _joined(entries: list[_Entry], new: _Entry) -> list[_Entry]:
    """The entries of one run_id with another folder's.

    A row that lies in both (a copied folder, an older state of one) is one attempt: the folder
    that has more of them keeps the cell. A cell that has ended in one folder is open in none, and
    one that has ended in none is open once.
    """
    joined = new
    apart = []
    for old in entries:
        if old.attempts.keys() & new.attempts.keys():
            keeps = joined if len(joined.attempts) > len(old.attempts) else old
            union = {**joined.attempts, **old.attempts}
            by_age = sorted(union.items(), key=lambda each: _age(each[1].row))
            joined = replace(keeps, attempts=dict(by_age))
        else:
            apart.append(old)
    together = [*apart, joined]
    settled = [each for each in together if each.is_settled]
    return settled or [max(together, key=lambda each: len(each.attempts))]


def _age(row: Row) -> tuple[str, int]:
    return row.get("started_at", ""), int(row["attempt"])


def _cells(entry: _Entry, planned_in: Iterable[int]) -> list[Cell]:
    """One for each code, environment and machine that it ran under, the latest last."""
    planned = entry.folder.planned[entry.run_id]
    folders = {id(each.row): each.folder for each in entry.attempts.values()}
    groups = by_circumstances(each.row for each in entry.attempts.values()) or [[]]
    found = []
    for place, attempts in enumerate(groups, start=1):
        last = ending(attempts)
        folder = folders[id(last)] if last else entry.folder
        which = (last["run_id"], last["host_id"], last["attempt"]) if last else None
        found.append(
            Cell(
                source=folder.index,
                run_id=entry.run_id,
                **{key: planned[key] for key in ("arm_id", "model", "optimizer", "device")},
                seed=WHOLE.read(planned["seed"]),
                row=last,
                curve=folder.curves.get(which, NO_CURVE) if which else NO_CURVE,
                attempts=tuple(attempts),
                planned_in=frozenset(planned_in),
                settings=planned.get("settings") or entry.folder.settings,
                earlier=place < len(groups),
                **{key: planned.get(key, "") for key in ("part", "tuned_optimizer", "trial")},
                twin=entry.folder.twins.get(entry.run_id, ""),
            )
        )
    return found


def _counted(source: Source, entries: Sequence[_Entry], cells: Sequence[Cell]) -> Source:
    attempts = sum(len(entry.attempts) for entry in entries)
    return replace(
        source,
        cells=len(entries),
        attempts=attempts,
        superseded=attempts - sum(cell.row is not None for cell in cells),
        copies=source.cells - len(entries),
    )


def _identity(row: Mapping[str, str]) -> tuple[str, ...]:
    """What no two attempts share: a machine starts a cell once at a moment. () if not known."""
    started = row.get("started_at")
    which = (row["run_id"], row["host_id"], row["attempt"], row["status"])
    return (*which, started) if started else ()


def _must_be_there(path: Path) -> None:
    if not path.is_file():
        raise FolderError(
            f"{path.parent} is no results folder: it has no {path.name}. Give a folder that "
            f"`{program()} run MATRIX` has written, such as results/NAME."
        )


def _check_planned(row: Row) -> None:
    kinds.required(row, "seed")
    if row.get("part") == "trial":
        kinds.required(row, "trial")
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
