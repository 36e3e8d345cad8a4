"""Results folders -> the planned cells of all of them, each with its attempts and its curve.

A cell that ran under several codes, environments or machines is several: each belongs where its
like are, and the latest is the one that is counted.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from bench.border.identity import digest
from bench.merge.reading import NO_CURVE, Curve, Damage, Known, UnreadableError
from bench.merge.source import Source, SourceRows, read_source
from bench.records.columns import SETTLED
from bench.records.endings import by_circumstances, ending
from bench.records.programs import Setup, field_of, setup_of
from bench.records.rows import Row, as_number

OPEN = "open"  # a selected cell without a row: not run yet


@dataclass(frozen=True)
class EndedCell:
    """A selected cell of one folder's plan, as it ended under one code, environment and machine."""

    source: int  # index of its folder
    run_id: str
    arm_id: str  # of all studies together, where its arm was tuned several times
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
    study: str = ""  # the tuning that it, or its twin, is of; empty where all is tuned once

    @property
    def status(self) -> str:
        return self.row["status"] if self.row else OPEN

    @property
    def ok(self) -> bool:
        return self.status == "ok"

    def text(self, column: str) -> str:
        """Of its row a column or a declared metric; empty if unknown, or older than the column."""
        return field_of(self.row, column) if self.row else ""

    def number(self, column: str) -> float | None:
        return as_number(self.text(column))

    @property
    def setup(self) -> Setup:
        return setup_of(self.settings)


@dataclass(frozen=True)
class Merged:
    sources: tuple[Source, ...]
    cells: tuple[EndedCell, ...]  # in the order of the plans
    damage: tuple[Damage, ...] = ()  # one a damaged file; what it names is not in the cells

    @property
    def counted(self) -> list[EndedCell]:
        """Each selected cell once."""
        return [cell for cell in self.cells if not cell.earlier]


def merge(folders: Sequence[Path]) -> Merged:
    """Read folders in the order given; one that is named twice is read once.

    Damaged lines are left out, and a folder without a usable header as well if another remains.

    Raises:
        FolderError: for a folder that is not a results folder.
        RecordError: if no folder can be read.
    """
    paths = list({path.resolve(): path for path in folders}.values())
    read: list[SourceRows] = []
    damage: list[Damage] = []
    refused: list[UnreadableError] = []
    plans: Known = {}
    for path, name in zip(paths, _names(paths), strict=True):
        try:
            folder = read_source(len(read), path, name, plans)
        except UnreadableError as error:
            why = f"{error.why}; the whole folder is left out"
            damage.append(Damage(f"{name}/{error.file}", 0, 0, why))
            refused.append(error)
        else:
            read.append(folder)
            damage += folder.damage
    if refused and not read:
        raise refused[0]
    _tell_kinds(read)
    return replace(_merged(read), damage=tuple(damage))


def _tell_kinds(folders: Sequence[SourceRows]) -> None:
    """A host's instruction sets are known from any of its rows: older versions did not tell them.

    Else a folder that a newer version went on with would fall apart.
    """
    rows = [row for each in folders for found in each.attempts.values() for row in found]
    kinds = {row["host_id"]: row["cpu_isa"] for row in rows if row.get("cpu_isa")}
    for row in rows:
        if not row.get("cpu_isa") and (kind := kinds.get(row["host_id"])):
            row["cpu_isa"] = kind


@dataclass(frozen=True)
class _Attempt:
    row: Row
    folder: SourceRows  # where its curve and its log are


@dataclass(frozen=True)
class _Entry:
    """A cell of one folder with all attempts at it, those of its folder's copies too."""

    folder: SourceRows
    run_id: str
    attempts: Mapping[tuple[str, ...], _Attempt]  # by what no two share, oldest first

    @property
    def is_settled(self) -> bool:
        return any(each.row["status"] in SETTLED for each in self.attempts.values())


def _merged(folders: Sequence[SourceRows]) -> Merged:
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


def _attempts(folder: SourceRows, run_id: str) -> dict[tuple[str, ...], _Attempt]:
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


def _cells(entry: _Entry, planned_in: Iterable[int]) -> list[EndedCell]:
    """One for each code, environment and machine that it ran under, the latest last."""
    planned = entry.folder.planned[entry.run_id]
    twin = entry.folder.twins.get(entry.run_id, {})
    folders = {id(each.row): each.folder for each in entry.attempts.values()}
    groups = by_circumstances(each.row for each in entry.attempts.values()) or [[]]
    found = []
    for place, attempts in enumerate(groups, start=1):
        last = ending(attempts)
        folder = folders[id(last)] if last else entry.folder
        which = (last["run_id"], last["host_id"], last["attempt"]) if last else None
        found.append(
            EndedCell(
                source=folder.index,
                run_id=entry.run_id,
                arm_id=_arm_id(planned),
                **{key: planned[key] for key in ("model", "optimizer", "device")},
                seed=int(planned["seed"]),
                row=last,
                curve=folder.curves.get(which, NO_CURVE) if which else NO_CURVE,
                attempts=tuple(attempts),
                planned_in=frozenset(planned_in),
                settings=planned.get("settings") or entry.folder.settings,
                earlier=place < len(groups),
                **{key: planned.get(key, "") for key in ("part", "tuned_optimizer", "trial")},
                twin=twin.get("optimizer", ""),
                study=planned.get("study") or twin.get("study", ""),
            )
        )
    return found


def _arm_id(planned: Row) -> str:
    """Each study may have chosen other settings: what is judged is all of them."""
    if planned.get("part") != "tuned" or not planned.get("study"):
        return planned["arm_id"]
    return digest({key: planned[key] for key in ("model", "optimizer", "device")})


def _counted(source: Source, entries: Sequence[_Entry], cells: Sequence[EndedCell]) -> Source:
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
