"""The rows of one version: a results folder, or a runs.csv by itself."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.errors import FolderError, RecordError
from bench.merge.reading import check_fields, check_status
from bench.records.endings import by_circumstances, ending
from bench.records.rows import RUNS_NEED, Row, read_runs

NEEDED = (*RUNS_NEED, "arm_id", "model", "optimizer", "device", "seed")
# What may differ between two versions, and is named: it is what is compared.
MAY_DIFFER = ("code_sha256", "git_commit", "git_dirty", "env_id", "image_id", "torch_version")
# What else a reader wants to know of each.
ABOUT = ("runtime", "host_id", "host_cpu_model", "gpu_name", "corpus")


@dataclass(frozen=True)
class Version:
    """The rows of one results folder, or of one runs.csv."""

    name: str  # for readers; never a whole path, which would name the machine's folders
    cells: Mapping[tuple[str, int], tuple[Row, ...]]  # (arm_id, seed) -> its terminal rows

    def told(self, column: str) -> tuple[str, ...]:
        """The distinct known fields of a column, in the order of the rows."""
        rows = (row for rows in self.cells.values() for row in rows)
        return tuple(dict.fromkeys(text for row in rows if (text := row.get(column, ""))))


def read_version(path: Path, name: str | None = None) -> Version:
    """The rows of a results folder, or of a runs.csv by itself.

    A cell has one row for each machine and kind of GPU that it ran on: of its attempts there, the
    one that tells how it ended. Several are repeats of its seed.

    Raises:
        FolderError: if there is no such file.
        RecordError: if it is damaged.
    """
    file = path / "runs.csv" if path.is_dir() else path
    if not file.is_file():
        raise FolderError(
            f"{file} is not there. Give a folder that `python -m bench run MATRIX` has written, or "
            "its runs.csv."
        )
    attempts: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    table = read_runs(file, NEEDED)
    if not table:
        raise RecordError(f"{file} has no rows. Give one that `python -m bench run` has filled.")
    for row in _checked(file, table):
        if row.get("part") != "trial":  # a search for settings, of no arm that is compared
            attempts[row["run_id"], row["host_id"], row.get("gpu_name", "")].append(row)
    cells: dict[tuple[str, int], list[Row]] = defaultdict(list)
    for rows in attempts.values():
        *_, latest = by_circumstances(sorted(rows, key=lambda row: int(row["attempt"])))
        last = ending(latest)
        assert last is not None
        cells[last["arm_id"], int(last["seed"])].append(last)
    folder = file.resolve().parent if file.name == "runs.csv" else file.resolve()
    return Version(name or folder.name, {cell: tuple(rows) for cell, rows in cells.items()})


def _checked(file: Path, rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        try:
            check_fields(row, "seed")
            check_status(row)
        except ValueError as error:
            raise RecordError(
                f"{file}: run {row['run_id']}, attempt {row['attempt']}: {error}. "
                "Put the field right, or remove the line."
            ) from error
        yield row
