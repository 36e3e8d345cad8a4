"""A matrix of many cells, and a results folder in which every one of them is settled here."""

from pathlib import Path

from bench.border.identity import code_sha256
from bench.launch.choose import choose_launcher
from bench.matrix.expansion import load_matrix
from bench.measure.machine import this_machine
from bench.records.cells import Cell
from bench.records.columns import RUN_COLUMNS
from bench.records.corpora import find_corpus
from bench.records.folder import ResultsFolder
from bench.records.rows import Row, RunsTable, read_table, write_table

ARMS = 4
# Rows and curves as wide and as long as published ones.
PUBLISHED = ResultsFolder(Path(__file__).parents[2] / "results" / "original-cpu")


def write_matrix(path: Path, cells: int) -> None:
    path.write_text(f"""\
name: many
data: {{corpus: pydoc}}
matrix:
  model: [nanogpt, nanokimi]
  optimizer: [adamw, truemuon]
  device: [cpu]
  seed: {list(range(1, cells // ARMS + 1))}
""")


def write_settled(folder: ResultsFolder, matrix_file: Path, runtime: str) -> None:
    """What a whole run of the matrix would have left, as far as another run reads it."""
    matrix = load_matrix(matrix_file)
    matrix = matrix.with_corpus(find_corpus(matrix.corpus).ref)
    launcher, _ = choose_launcher(runtime, None)
    host_id, env_id = this_machine().host_id, launcher.environment("cpu").env_id
    here = {"host_id": host_id, "env_id": env_id, "code_sha256": code_sha256(), "status": "ok"}
    published = read_table(PUBLISHED.runs)[0]
    curve = next(PUBLISHED.cells.glob("*/curve.csv")).read_text(encoding="utf-8")
    rows = [{**published, **here, **_names(cell)} for cell in matrix.cells]
    for row in rows:
        cell = folder.cells / f"{row['run_id']}-{row['attempt']}"
        cell.mkdir(parents=True)
        (cell / "curve.csv").write_text(curve, encoding="utf-8")
    write_table(folder.runs, RUN_COLUMNS, rows)
    folder.write_plan(matrix.name, matrix.text, matrix.cells, {row["run_id"] for row in rows})
    folder.rebuild_curves(RunsTable(folder.runs))


def _names(cell: Cell) -> Row:
    spec = cell.spec
    return {
        "run_id": spec.run_id,
        "arm_id": spec.arm_id,
        "attempt": "1",
        "model": spec.model.name,
        "optimizer": spec.optimizer.name,
        "seed": str(spec.seed),
    }
