"""A results folder: its files, its lock, its attempts."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.border.spec import CellFiles
from bench.errors import FolderError, RecordError, program
from bench.records.cells import Cell
from bench.records.compiled import discard
from bench.records.hold import Hold, Newcomer
from bench.records.rows import Row, RunsTable, read_table, write_table
from bench.records.tables import CURVE_COLUMNS, PLAN_COLUMNS

TASKS = "tasks"  # of a matrix that ran as several tasks: the results folders of all of them

PLACE = ("model", "optimizer", "device", "seed")  # `Cell.place` in plan.csv

# A cell's own files: some 100 KiB, and a few MiB of samples and step times for an hour.
ROOM_FOR_A_CELL = 8 * 2**20


class ResultsFolder:
    """`results/<name>/`. Only who holds it writes here."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.matrix = path / "matrix.yaml"
        self.plan = path / "plan.csv"
        self.runs = path / "runs.csv"
        self.curves = path / "curves.csv"
        self.cells = path / "cells"
        self.report = path / "report"
        self._hold: Hold | None = None

    @contextmanager
    def locked(self, newcomer: Newcomer | None = None) -> Iterator[Hold]:
        """Hold the folder for writing; it is made, and shown to be writable, first.

        `newcomer`: what to do while another runner holds it; refuse, unless told otherwise.

        Raises:
            FolderError: if it cannot be written, or another runner holds it (and which).
            StoppedError: if the newcomer gave up.
        """
        hold = Hold(self.path)
        try:
            self.cells.mkdir(parents=True, exist_ok=True)
            hold.take(newcomer or Newcomer())
        except OSError as error:
            raise FolderError(
                f"{self.path} cannot be written: {error.strerror}. Give another --out."
            ) from error
        self._hold = hold
        try:
            yield hold
        finally:
            self._hold = None
            hold.release()

    def check_held(self) -> None:
        """Raises FolderError once this process was seen to be taken over from."""
        if self._hold and self._hold.lost:
            raise self._hold.loss()

    def open_runs(self) -> RunsTable:
        """runs.csv, with the rows that a killed holder had committed."""
        with self.writing():
            return RunsTable(self.runs, self._hold)

    def put(self, path: Path, content: str) -> None:
        """Put a file of this folder in place whole, if it is still ours.

        Raises:
            FolderError, OSError: as `Hold.put`.
        """
        (self._hold.put if self._hold else write_atomically)(path, content)

    def write_plan(self, name: str, text: str, cells: Sequence[Cell], selected: set[str]) -> None:
        """What was asked, and which cells; a cell that an earlier run selected stays selected.

        `name`, `text` and `cells` are those of a matrix file, `selected` are run_ids.
        """
        earlier = [row for row in read_table(self.plan) if row["selected"] == "true"]
        chosen = selected | {row["run_id"] for row in earlier}
        # A tuned cell gets its run_id from its trials; by its names it is the same one.
        tuned = {tuple(row[key] for key in PLACE) for row in earlier if row.get("part") == "tuned"}
        rows = [
            {
                **cell.columns,
                "name": name,
                "selected": cell.spec.run_id in chosen or tuple(map(str, cell.place)) in tuned,
            }
            for cell in cells
        ]
        with self.writing():
            self.put(self.matrix, text)
            write_table(self.plan, PLAN_COLUMNS, rows, self.put)

    def next_attempt(self, cell: Cell, rows: Sequence[Row]) -> int:
        """1, 2, ...; a folder without a row is an attempt as well: its runner was killed."""
        folders = self.cells.glob(f"{cell.spec.run_id}-*")
        numbers = [folder.name.rpartition("-")[2] for folder in folders]
        taken = [int(number) for number in numbers if number.isdecimal()]
        return 1 + max([int(row["attempt"]) for row in rows] + taken, default=0)

    def make_attempt(self, cell: Cell, attempt: int) -> CellFiles:
        """The folder of an attempt, with its spec.json.

        Raises:
            FolderError: if it cannot be made, or the disk has no room for what a cell leaves.
        """
        files = CellFiles(self.cells / f"{cell.spec.run_id}-{attempt}")
        with self.writing():
            free = shutil.disk_usage(self.cells).free
            if free < ROOM_FOR_A_CELL:
                raise FolderError(
                    f"{self.path}: its disk has {free / 2**20:.1f} MiB left; a cell needs "
                    f"{ROOM_FOR_A_CELL // 2**20} MiB for its files. Make room."
                )
            files.folder.mkdir()
            # Readable to all: a container reads it under another user.
            write_atomically(files.spec, cell.spec.to_json(), mode=0o644)
        return files

    def take_over(self, process: CellFiles, nth: int, files: CellFiles) -> None:
        """Move what a process left of its nth run, from 2, into the folder of that run's cell."""
        with self.writing():
            for target in (files.curve, files.steps):
                left = process.of_run(target.name, nth)
                if left.is_file() and not left.is_symlink():
                    left.replace(target)

    def discard_compiled(self) -> None:
        """What the cells of a killed runner had compiled; nothing may run here any more."""
        for place in self.cells.glob("*/compiled"):
            discard(place)

    @contextmanager
    def writing(self) -> Iterator[None]:
        """A disk that does not take what is written is an error for the person at the keyboard.

        Raises:
            FolderError: for that, or if another runner holds the folder by now.
        """
        try:
            if self._hold:
                self._hold.check()
            yield
        except OSError as error:
            raise FolderError(
                f"{self.path} cannot be written any more: {error}. The rows that it has are "
                "complete. Make it writable and run again."
            ) from error

    def rebuild_curves(self, runs: RunsTable) -> None:
        """curves.csv from the cells of all committed rows."""
        with self.writing():
            write_table(self.curves, CURVE_COLUMNS, self._curve_rows(runs), self.put)

    def curves_are_current(self, runs: RunsTable) -> bool:
        """Whether curves.csv is younger than the rows and all that it was made from.

        A runner that was killed has not come to it.
        """
        made = _changed_ns(self.curves)
        cells = (self._cell_of(row) for row in runs.rows)
        sources = (path for cell in cells for path in (cell.folder, cell.curve))
        return all(_changed_ns(path) < made for path in (self.runs, *sources))

    def _curve_rows(self, runs: RunsTable) -> Iterator[Mapping[str, str]]:
        for row in runs.rows:
            curve = self._cell_of(row).curve
            if curve.is_symlink() or not curve.is_file():
                continue  # a worker owns its folder; it must not make us read another file
            which = {key: row[key] for key in ("run_id", "host_id", "attempt")}
            try:
                points = read_table(curve)
            except RecordError:  # of a worker that leaves anything; its row has been judged
                continue
            for point in points:
                yield {**point, **which}  # a curve cannot say whose it is

    def _cell_of(self, row: Row) -> CellFiles:
        return CellFiles(self.cells / f"{row['run_id']}-{row['attempt']}")


def check_there(file: Path) -> None:
    """Raises FolderError if a file is missing without which a folder is no results folder."""
    if not file.is_file():
        raise FolderError(
            f"{file.parent} is no results folder: it has no {file.name}. Give a folder that "
            f"`{program()} run MATRIX` has written, such as results/NAME."
        )


def results_folders(named: Iterable[Path]) -> list[Path]:
    """The results folders that these stand for: one that holds tasks stands for all of theirs."""
    found: list[Path] = []
    for path in named:
        tasks = path / TASKS
        if tasks.is_dir() and not (path / "plan.csv").exists():
            inside = [each for each in tasks.iterdir() if each.is_dir()]
            found += sorted(inside, key=lambda each: (len(each.name), each.name))  # 2 before 10
        else:
            found.append(path)
    return found


def _changed_ns(path: Path) -> int:
    """When a file was written last, or a folder given or rid of one; 0 if it is not there."""
    try:
        return os.lstat(path).st_mtime_ns
    except FileNotFoundError:
        return 0
