"""Logs of runs that were made elsewhere, by a matrix: its program's patterns and its names."""

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.border.program import Program
from bench.errors import ForeignError, Mistake, nearest
from bench.matrix.expansion import load_matrix
from bench.program.reading import why_no_expression
from bench.run.imported.log import read_log
from bench.run.imported.results import Foreign, ForeignRun, Place
from bench.statistics.text import counted

MOST_TOLD = 30  # mistakes: the others are counted


@dataclass(frozen=True)
class LogsRequest:
    """The options of `import --logs`."""

    paths: str  # a pattern, as a shell has them
    matrix: Path
    name_pattern: str  # a regular expression with the groups model, optimizer, seed, device
    name: str  # empty: after the matrix

    def read(self) -> Foreign:
        """
        Raises:
            MatrixError: for the matrix.
            ForeignError: with what is wrong with the options and the names of the logs.
        """
        matrix = load_matrix(self.matrix)
        cells = [cell for cell in matrix.cells if not cell.part]
        program = cells[0].spec.program
        if program is None:
            raise self._error([("", f"{self.matrix} has no `program`, which says what logs tell.")])
        planned = [Place(*cell.place) for cell in cells]
        named = self._named(self._name_pattern(planned, program), planned)
        total, runs, wrong = hashlib.sha256(), dict[Place, ForeignRun](), []
        for path, places in named.items():
            found = read_log(Path(path), program, total.update)
            free = [place for place in places if place not in runs]
            if len(found) > len(free):
                what = f"holds {counted(len(found), 'run')}, and the matrix has place for"
                wrong.append((path, f"{what} {len(free)} more that are called so."))
            runs |= zip(free, found, strict=False)
        if wrong:
            raise self._error(wrong)
        name = self.name or f"{matrix.name}-imported"  # results/NAME is for the matrix's own runs
        return Foreign(name, matrix.text, cells[0].spec.settings, total.hexdigest(), planned, runs)

    def _name_pattern(self, planned: Sequence[Place], program: Program) -> re.Pattern[str]:
        """Raises ForeignError where it does not tell which run a log is of."""
        if why := why_no_expression(self.name_pattern):
            raise self._error([("--name-pattern", f"{why}.")])
        pattern = re.compile(self.name_pattern)
        # Runs that no seed decides take those of the matrix in turn.
        in_turn = bool(program.trials) or program.seeds == "replicates"
        wrong = []
        for axis in Place._fields:
            values = {str(getattr(place, axis)) for place in planned}
            if (
                axis not in pattern.groupindex
                and len(values) > 1
                and not (axis == "seed" and in_turn)
            ):
                what = (
                    f"has no group {axis}, and the matrix has several: {', '.join(sorted(values))}."
                )
                wrong.append(("--name-pattern", what))
        wrong += [
            ("--name-pattern", f"no group is called {group!r}. {nearest(group, Place._fields)}")
            for group in pattern.groupindex
            if group not in Place._fields
        ]
        if wrong:
            raise self._error(wrong)
        return pattern

    def _named(self, pattern: re.Pattern[str], planned: Sequence[Place]) -> dict[str, list[Place]]:
        """Path -> the runs of the matrix that it may be of, by its name."""
        values = {axis: {str(getattr(place, axis)) for place in planned} for axis in Place._fields}
        named: dict[str, list[Place]] = {}
        wrong = []
        for path in sorted(glob.glob(self.paths, recursive=True)):
            if not Path(path).is_file():
                continue
            found = pattern.search(path)
            told = found.groupdict("") if found else {}
            if "seed" in told:
                told["seed"] = told["seed"].lstrip("0") or "0"  # as numbers in names often are
            named[path] = [
                place
                for place in planned
                if all(str(getattr(place, axis)) == value for axis, value in told.items())
            ]
            unknown = [axis for axis, value in told.items() if value not in values[axis]]
            if not found:
                wrong.append((path, "--name-pattern does not match this path."))
            elif unknown:
                what = f"the matrix has no {unknown[0]} {told[unknown[0]]!r}."
                wrong.append((path, f"{what} {nearest(str(told[unknown[0]]), values[unknown[0]])}"))
            elif not named[path]:
                wrong.append((path, "the matrix excludes this run."))
        if not named:
            wrong.append(("--logs", "no file is called so. Put the pattern in quotes."))
        if wrong:
            raise self._error(wrong)
        return named

    def _error(self, wrong: Sequence[tuple[str, str]]) -> ForeignError:
        told = [Mistake(0, *each) for each in wrong[:MOST_TOLD]]
        return ForeignError(self.paths, told, len(wrong) - len(told))
