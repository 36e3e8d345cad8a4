"""What a page is made of: the same for HTML and Markdown, which only write it down."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bench.report.plots.drawing import Drawing


@dataclass(frozen=True)
class Heading:
    text: str
    number: bool = False  # set right, in figures of one width


@dataclass(frozen=True)
class Field:
    text: str
    href: str = ""  # relative to the page; empty: no link
    anchor: str = ""  # of a part of index.html, which links there; empty: no such part


@dataclass(frozen=True)
class Table:
    caption: str
    headings: tuple[Heading, ...]
    rows: tuple[tuple[Field, ...], ...]
    note: str = ""  # what a reader must know about it


Item = TypeVar("Item")
# Of each column its heading, and what a row has there; a text is a field without a link.
Columns = Sequence[tuple[Heading, Callable[[Item], str | Field]]]


def number(text: str) -> Heading:
    """The heading of a column of figures."""
    return Heading(text, number=True)


def table(caption: str, rows: Iterable[Item], columns: Columns[Item], note: str = "") -> Table:
    """One row of fields for each of `rows`."""
    filled = (tuple(_field(of(row)) for _, of in columns) for row in rows)
    return Table(caption, tuple(heading for heading, _ in columns), tuple(filled), note)


def _field(item: str | Field) -> Field:
    return Field(item) if isinstance(item, str) else item


@dataclass(frozen=True)
class CellView:
    """All that the page tells of one run; texts are cut to what a run may take."""

    anchor: str
    title: str
    facts: tuple[tuple[str, str], ...]
    log: str  # its last lines
    about_log: str  # what was left out of it, or why there is none
    files: tuple[Field, ...]


@dataclass(frozen=True)
class SectionView:
    title: str
    answer: tuple[Table, ...]  # the claim, model or optimizer, what a target costs
    facts: tuple[tuple[str, str], ...]  # what it ran on: term, text
    summary: Table
    pictures: tuple[Drawing, ...]
    more: tuple[Table, ...]  # costs, single cells
    not_ok: tuple[str, ...]  # one cell each
    curves: Mapping[str, object] | None  # for the page's script: traces.py; None: there are none


@dataclass(frozen=True)
class Headline:
    """The answer of one section: first in one sentence, then by how much, then why."""

    title: str  # of the section, where there are several
    lead: str
    points: tuple[str, ...] = ()  # an arm each


@dataclass(frozen=True)
class Page:
    title: str
    headlines: tuple[Headline, ...]  # one a section
    coverage: str
    not_ok: Table | None
    sources: Table
    notes: tuple[str, ...]
    intro: str  # to the sections; empty where there is one
    sections: tuple[SectionView, ...]
    cells: tuple[CellView, ...]  # none where there are too many of them
    citation: str
    commands: tuple[str, ...]  # which make these results again
    commands_note: str
    terms: Table = field(repr=False)
    definitions: Table = field(repr=False)
