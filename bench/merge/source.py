"""One results folder -> which of its cells are counted, with all attempts at them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.merge.asked import settings_of
from bench.merge.reading import (
    Curve,
    Damage,
    Known,
    Which,
    check_fields,
    check_status,
    read_curves,
    read_rows,
)
from bench.records.columns import SETTLED
from bench.records.folder import ResultsFolder, check_there
from bench.records.rows import RUNS_NEED, Row, by_cell

PLAN_NEEDS = ("run_id", "arm_id", "model", "optimizer", "device", "seed", "selected")

Dropped = tuple[str, str, str]  # arm_id, device, settings


@dataclass(frozen=True)
class Source:
    """One results folder, and what of it is counted."""

    path: Path
    name: str  # for readers; never a whole path, which would name the machine's folders
    matrices: tuple[str, ...]
    cells: int  # selected
    unplanned: int  # cells in runs.csv that the plan does not name or did not select
    dropped: int = 0  # of the cells: seeds that the plan names no more, of arms that it names
    dropped_arms: frozenset[Dropped] = frozenset()  # arms that ran and are in the plan no more
    # What is known when all folders are read:
    attempts: int = 0  # rows of the selected cells
    superseded: int = 0  # of these, the rows that do not tell how their cell ended
    copies: int = 0  # cells whose rows are in another folder as well, and are counted there


@dataclass(frozen=True)
class SourceRows:
    """What lies in it, checked and not yet joined with other folders."""

    index: int
    source: Source
    planned: Mapping[str, Row]  # the selected cells by run_id, in the order of the plan
    twins: Mapping[str, Row]  # by run_id: the second, tuned cell that it is as well
    attempts: Mapping[str, list[Row]]  # of these, oldest first
    curves: Mapping[Which, Curve]
    settings: str  # of its matrix
    damage: list[Damage]


def read_source(index: int, path: Path, name: str, plans: Known) -> SourceRows:
    """Read one folder; `plans` has the lines of the plans that were read before it.

    Raises:
        FolderError: for a folder that is not a results folder.
        UnreadableError: if one of its tables cannot be read at all.
    """
    folder = ResultsFolder(path)
    for file in (folder.plan, folder.runs):
        check_there(file)
    plan, wrong_plan = read_rows(folder.plan, name, PLAN_NEEDS, _check_planned, plans)
    runs, wrong_runs = read_rows(folder.runs, name, RUNS_NEED, _check_ended)
    curves, wrong_curves = read_curves(folder.curves, name)
    selected, twins = _selected(plan)
    dropped = _dropped(selected, runs)
    # Where all is tuned once, what is so of one seed of an arm is so of all.
    of_arms = {
        selected[run_id]["arm_id"]: row for run_id, row in twins.items() if not row.get("study")
    }
    twins |= {
        run_id: of_arms[row["arm_id"]]
        for run_id, row in dropped.items()
        if row["arm_id"] in of_arms
    }
    attempts = by_cell(runs)
    source = Source(
        path=path,
        name=name,
        matrices=tuple(dict.fromkeys(row["name"] for row in plan if row.get("name"))),
        cells=len(selected) + len(dropped),
        unplanned=len(attempts.keys() - selected.keys() - dropped.keys()),
        dropped=len(dropped),
        dropped_arms=_dropped_arms(selected, runs),
    )
    return SourceRows(
        index=index,
        source=source,
        planned=selected | dropped,
        twins=twins,
        attempts=attempts,
        curves=curves,
        settings=settings_of(path),
        damage=[*wrong_plan, *wrong_runs, *wrong_curves],
    )


def _selected(plan: Sequence[Row]) -> tuple[dict[str, Row], dict[str, Row]]:
    """The selected cells, and of those that run under a second, tuned name that one."""
    selected: dict[str, Row] = {}
    twins: dict[str, Row] = {}
    for row in plan:
        if row["selected"] != "true":
            continue
        if row["run_id"] in selected and row.get("part") == "tuned":
            twins[row["run_id"]] = row
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


def _check_planned(row: Row) -> None:
    check_fields(row, "seed", *(["trial"] if row.get("part") == "trial" else []))


def _check_ended(row: Row) -> None:
    check_status(row)
    check_fields(row, "attempt")
