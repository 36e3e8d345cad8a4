"""What a page is made of: the same for HTML and Markdown, which only write it down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum


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


def table(
    caption: str,
    headings: Sequence[Heading],
    rows: Sequence[Sequence[str | Field]],
    note: str = "",
) -> Table:
    """A table; texts become fields without a link."""
    for row in rows:
        assert len(row) == len(headings), (caption, len(row), len(headings))
    filled = (tuple(Field(item) if isinstance(item, str) else item for item in row) for row in rows)
    return Table(caption, tuple(headings), tuple(filled), note)


class Place(Enum):
    """Where in its section a picture belongs."""

    ANSWER = "answer"  # beside the claim
    CURVES = "curves"  # instead of the interactive curves, where these are not
    EVIDENCE = "evidence"


@dataclass(frozen=True)
class Picture:
    file: str  # beside the page
    caption: str
    alt: str
    place: Place
    png: bytes = field(repr=False)


@dataclass(frozen=True)
class CellView:
    """All that the page tells of one cell; texts are cut to what a cell may take."""

    anchor: str
    title: str
    facts: tuple[tuple[str, str], ...]
    log: str  # its last lines
    about_log: str  # what was left out of it, or why there is none
    files: tuple[Field, ...]


@dataclass(frozen=True)
class SectionView:
    title: str
    answer: tuple[Table, ...]  # the claim, the ladder, what a target costs
    facts: tuple[tuple[str, str], ...]  # what it ran on: term, text
    summary: Table
    pictures: tuple[Picture, ...]
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
