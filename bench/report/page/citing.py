"""How to cite a report, and the commands that make its results again."""

import shlex
from collections.abc import Sequence

import bench
from bench.merge.merging import EndedCell, Merged
from bench.records.columns import IMPORTED
from bench.statistics.text import NOT_AVAILABLE, sentences

NAME = "bench-matrix"  # as pyproject.toml has it
DIGITS = 12  # of a hash

DIRTY = (
    "Some rows were made with changes that were not committed: the commit alone does not make "
    "them again."
)
UNKNOWN = "The commit of some rows is not known: another version may have made them."
SEVERAL = "The rows are of several commits: run each folder's matrix at its own."
OF_PROGRAMS = (
    "The matrix names its program by a path from its own place: put that file where the program "
    "lies, of the SHA-256 above, and run it there. Whether losses come out the same is the "
    "program's own doing; times do not."
)
ELSEWHERE = "Imported runs were made elsewhere: no command of this program makes them again."
LOSSES = "On the same machine and image, losses come out the same to the last digit; times do not."


def citation(merged: Merged) -> str:
    """What ran, with which program and when: of the rows, so that a later report says the same."""
    rows = [cell for cell in merged.cells if cell.row]
    names = dict.fromkeys(name for source in merged.sources for name in source.matrices)
    days = sorted({cell.text("started_at")[:10] for cell in rows} - {""})
    when = " to ".join(dict.fromkeys((days[0], days[-1]))) if days else NOT_AVAILABLE
    code = [short[:DIGITS] for short in _distinct(rows, "code_sha256")]
    return (
        f"{NAME} {bench.__version__}. Results of the matrix {', '.join(names) or NOT_AVAILABLE}: "
        f"{len(rows)} runs, made {when}. "
        f"Commit {', '.join(_commits(rows)) or NOT_AVAILABLE}, "
        f"worker code SHA-256 {', '.join(code) or NOT_AVAILABLE}."
    )


def commands(merged: Merged) -> tuple[str, ...]:
    """Lines for a shell, in the harness's own folder; `again` is where new results go."""
    rows = [cell for cell in merged.cells if cell.row]
    commits = _commits(rows)
    checkout = [f"git checkout {shlex.quote(commits[0])}"] if len(commits) == 1 else []
    runs, folders = [], []
    for index, source in enumerate(merged.sources):
        folder = "again" if len(merged.sources) == 1 else f"again-{index + 1}"
        matrix = shlex.quote(f"{source.name}/matrix.yaml")
        runtimes = _distinct([cell for cell in rows if cell.source == index], "runtime")
        if IMPORTED in runtimes:
            continue
        runtime = f" --runtime {shlex.quote(runtimes[0])}" if len(runtimes) == 1 else ""
        runs.append(f"python -m bench run {matrix} --out {folder}{runtime}")
        folders.append(folder)
    target = " --out report" if len(folders) > 1 else ""
    again = [f"python -m bench report {' '.join(folders)}{target}"] if folders else []
    return (*checkout, *runs, *again)


def commands_note(merged: Merged) -> str:
    """What these commands do not bring back."""
    rows = [cell for cell in merged.cells if cell.row]
    made = [cell for cell in rows if cell.text("runtime") != IMPORTED]
    if not made:
        return ELSEWHERE
    known = [cell.text("git_commit") for cell in made]
    return sentences(
        ELSEWHERE if len(made) < len(rows) else "",
        SEVERAL if len(_commits(rows)) > 1 else "",
        UNKNOWN if not all(known) else "",
        DIRTY if "true" in _distinct(rows, "git_dirty") else "",
        OF_PROGRAMS if any(cell.setup.program for cell in rows) else LOSSES,
    )


def _commits(rows: Sequence[EndedCell]) -> list[str]:
    return [commit[:DIGITS] for commit in _distinct(rows, "git_commit")]


def _distinct(rows: Sequence[EndedCell], column: str) -> list[str]:
    return list(dict.fromkeys(text for cell in rows if (text := cell.text(column))))
