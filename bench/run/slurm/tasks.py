"""The cells of a matrix -> tasks of an array: what one of them runs, in a folder of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.errors import RequestError, nearest
from bench.matrix.expansion import Matrix
from bench.matrix.selection import axis_values
from bench.records.cells import Cell
from bench.statistics.text import counted

KINDS = ("seed", "cell")


@dataclass(frozen=True)
class Task:
    """`only` chooses its cells (`run --only`): they are named, not numbered, so that a matrix that
    has grown gives its tasks the folders that they had.
    """

    name: str  # of its folder
    only: tuple[str, ...]
    cells: tuple[Cell, ...]

    @property
    def device(self) -> str:
        return self.cells[0].spec.device


def tasks_of(matrix: Matrix, kind: str) -> tuple[list[Task], str]:
    """The tasks in the running order of their first cells, and one line that says what they are.

    What is decided together stays together: the trials of a study with the cells that wait for
    them, and the runs that a program makes in one process.

    Raises:
        RequestError: for a kind that does not exist, or that would tear these apart.
    """
    if kind not in KINDS:
        raise RequestError(f"--task {kind}: no such kind. {nearest(kind, KINDS)}")
    of_cell, axes, what = _grouping(matrix, kind)
    groups: dict[str, list[Cell]] = {}
    for cell in matrix.cells:
        groups.setdefault(of_cell(cell), []).append(cell)
    tasks = [Task(name, _only(cells, axes), tuple(cells)) for name, cells in groups.items()]
    return tasks, f"{counted(len(tasks), 'task')}, {what}"


def _grouping(matrix: Matrix, kind: str) -> tuple[Callable[[Cell], str], tuple[str, ...], str]:
    """The name of a cell's task, the axes that choose the cells of one, and what one is."""
    program = matrix.cells[0].spec.program
    if matrix.tune and kind == "cell":
        raise RequestError(
            "--task cell: the matrix has `tune`, and the trials of a study decide what its tuned "
            "cells are. Leave --task out: a task is a study then."
        )
    if program is not None and program.trials:
        if matrix.tune:
            raise RequestError(
                "the program makes the runs of a configuration in one process (program.trials), "
                "and trials decide further ones (tune): no part of this matrix can run by itself. "
                "Run it on one machine."
            )
        if kind == "cell":
            raise RequestError(
                "--task cell: the program makes the runs of a configuration in one process "
                "(program.trials). Leave --task out: a task is a configuration then."
            )
        return _arm_name, ("model", "optimizer", "device"), "each a configuration"
    if matrix.tune:
        studies = _studies(matrix)
        return (
            lambda cell: f"{cell.spec.device}-study-{studies[cell.spec.seed]}",
            ("device", "seed"),
            "each a study: its trials, and what waits for them",
        )
    if kind == "cell":
        every = ("model", "optimizer", "device", "seed")
        return lambda cell: f"{_arm_name(cell)}-seed-{cell.spec.seed}", every, "each a run"
    return (
        lambda cell: f"{cell.spec.device}-seed-{cell.spec.seed}",
        ("device", "seed"),
        "each all runs of a seed on one device",
    )


def _studies(matrix: Matrix) -> dict[int, int]:
    """The study of each seed: of the matrix, and of trials. No two studies share one."""
    return {
        cell.spec.seed: cell.tried.study or 1 for cell in matrix.cells if cell.tried is not None
    }


def _arm_name(cell: Cell) -> str:
    """No name has a plus sign."""
    values = axis_values(cell)
    return f"{values['model']}+{values['optimizer']}-{values['device']}"


def _only(cells: Sequence[Cell], axes: tuple[str, ...]) -> tuple[str, ...]:
    """Rules of one key are alternatives, those of several must all hold."""
    rules = (f"{axis}={axis_values(cell)[axis]}" for axis in axes for cell in cells)
    return tuple(dict.fromkeys(rules))
