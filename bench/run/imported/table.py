"""A CSV of runs that were made elsewhere, one line a run or one a step -> what it tells of each.

All mistakes are told at once, each with its line and its column; nothing is guessed.
"""

import csv
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.errors import ForeignError, Mistake, nearest, shown
from bench.run.imported.course import Course
from bench.run.imported.figures import Figure
from bench.run.imported.results import Place

SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "a bar"}
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|nan|[+-]?inf(inity)?", re.I | re.A)
WHOLE = re.compile(r"0*(\d{1,19})(\.0*)?", re.A)
MOST = 2**63  # no whole number is as large
MOST_TOLD = 30  # mistakes: the others are counted


@dataclass(frozen=True)
class Columns:
    """Where a file has what of a run."""

    names: Mapping[str, str]  # model, optimizer, seed, device -> column
    fixed: Mapping[str, str]  # the same of all runs -> value, for what has no column
    figures: Sequence[Figure]
    steps: str = ""  # column; empty: one line a run

    @property
    def wanted(self) -> list[str]:
        steps = [self.steps] if self.steps else []
        return [*self.names.values(), *steps, *(figure.column for figure in self.figures)]


@dataclass
class CsvTable:
    """What was read."""

    separator: str  # in words
    courses: dict[Place, Course] = field(default_factory=dict)  # in the order of the file


def read_csv(path: Path, columns: Columns) -> CsvTable:
    """Read a file whole.

    Raises:
        ForeignError: with its mistakes.
    """
    return _CsvReader(path, columns).read()


class _CsvReader:
    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self.columns = columns
        self.courses: dict[Place, Course] = {}
        self.places: dict[tuple[str, ...], Place | None] = {}  # by their fields; None: refused
        self.mistakes: list[Mistake] = []
        self.untold = 0

    def read(self) -> CsvTable:
        if not self.path.is_file():
            self._mistake(0, "", "is no file. Name a CSV.")
            raise self._error()
        line, separator = 0, ","
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                first = file.readline()
                separator = self._separator(first)
                rows = csv.reader(itertools.chain([first], file), delimiter=separator, strict=True)
                header = [name.strip() for name in next(rows, [])]
                self._check_header(header)
                line = rows.line_num + 1
                for fields in rows:
                    if fields:  # an empty line is none
                        self._line(line, header, fields)
                    line = rows.line_num + 1
        except UnicodeDecodeError:
            self._mistake(line, "", "what follows is not UTF-8. Save the file as UTF-8.")
        except csv.Error as error:
            self._mistake(line, "", f"this is no CSV: {error}. Check its quotes.")
        except OSError as error:
            self._mistake(0, "", f"cannot be read: {error.strerror}.")
        if not (self.mistakes or self.courses):
            self._mistake(0, "", "has no line below its header.")
        if self.mistakes:
            raise self._error()
        return CsvTable(SEPARATORS[separator], self.courses)

    def _separator(self, header: str) -> str:
        """Of those that are known, the one by which most columns are found that are wanted."""

        def found(separator: str) -> tuple[int, int]:
            names = [name.strip(' "\r\n') for name in header.split(separator)]
            return len(set(self.columns.wanted) & set(names)), len(names)

        return max(SEPARATORS, key=found)

    def _check_header(self, header: Sequence[str]) -> None:
        """Raises ForeignError unless each column that is wanted is there, once."""
        for name in dict.fromkeys(self.columns.wanted):
            if name not in header:
                self._mistake(1, name, f"no such column. {nearest(name, filter(None, header))}")
            elif header.count(name) > 1:
                self._mistake(1, name, f"{header.count(name)} columns have this name. Rename them.")
        if self.mistakes:
            raise self._error()

    def _line(self, line: int, header: Sequence[str], fields: Sequence[str]) -> None:
        if len(fields) != len(header):
            what = f"has {len(fields)} fields under a header of {len(header)}. Check its quotes."
            self._mistake(line, "", what)
            return
        told = dict(zip(header, fields, strict=True))
        place = self._place(line, told)
        column = self.columns.steps
        step = self._whole(line, column, told[column]) if column else None
        values = tuple(self._value(line, figure, told) for figure in self.columns.figures)
        if place is None or (column and step is None):
            return
        course = self.courses.setdefault(place, Course(self.columns.figures))
        if step is None and course.lines:
            ((_, (earlier, _)),) = course.lines.items()
            what = f"is {_name(place)} again, as line {earlier}. Remove one, or give --steps."
            self._mistake(line, "", what)
        elif earlier := course.add(step, line, values):
            at = f"step {step} of {_name(place)}"
            self._mistake(line, "", f"says otherwise of {at} than line {earlier}. Remove one.")

    def _place(self, line: int, told: Mapping[str, str]) -> Place | None:
        """Whose line it is; None for a run that cannot be called so, which is told once."""
        named = {key: told[column].strip() for key, column in self.columns.names.items()}
        texts = tuple(named.values())
        if texts in self.places:
            return self.places[texts]
        fields = {"device": "", **self.columns.fixed, **named}
        seed = self._whole(line, self.columns.names.get("seed", "seed"), fields["seed"])
        place = Place(fields["model"], fields["optimizer"], fields["device"], seed or 0)
        for key, why in (wrong := place.why_not).items():
            self._mistake(line, self.columns.names.get(key, key), why)
        self.places[texts] = None if wrong or seed is None else place
        return self.places[texts]

    def _whole(self, line: int, column: str, text: str) -> int | None:
        """A whole number, also as 3.0: so are they written beside unknown ones."""
        text = text.strip()
        found = WHOLE.fullmatch(text)
        if found and (number := int(found[1])) < MOST:
            return number
        self._mistake(line, column, f"{shown(text)} is not a whole number, from 0 to 2^63 - 1.")
        return None

    def _value(self, line: int, figure: Figure, told: Mapping[str, str]) -> float | None:
        text = told[figure.column].strip()
        if not text:
            return None
        if not NUMBER.fullmatch(text):
            what = f"{shown(text)} is not a number. Write it with a point, or nothing if unknown."
            self._mistake(line, figure.column, what)
            return None
        value = float(text)
        if figure.is_loss or figure.better:
            return value
        if math.isnan(value):  # which some write for what is not known
            return None
        if figure.is_whole and not (value.is_integer() and abs(value) < MOST):
            self._mistake(line, figure.column, f"{shown(text)} is not a whole number.")
        elif math.isinf(value):
            self._mistake(line, figure.column, f"{shown(text)} is not finite.")
        return value

    def _mistake(self, line: int, where: str, what: str) -> None:
        if len(self.mistakes) < MOST_TOLD:
            self.mistakes.append(Mistake(line, where, what))
        else:
            self.untold += 1

    def _error(self) -> ForeignError:
        return ForeignError(str(self.path), self.mistakes, self.untold)


def _name(place: Place) -> str:
    return f"{place.model} + {place.optimizer}, seed {place.seed}"
