"""What a page is made of: the same for HTML and Markdown, which only write it down."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Heading:
    text: str
    number: bool = False  # set right, in figures of one width


@dataclass(frozen=True)
class Field:
    text: str
    href: str = ""  # relative to the page; empty: no link


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


@dataclass(frozen=True)
class Picture:
    file: str  # beside the page
    caption: str
    alt: str


@dataclass(frozen=True)
class SectionView:
    title: str
    answer: tuple[Table, ...]  # the claim, the ladder, what a target costs
    facts: tuple[tuple[str, str], ...]  # what it ran on: term, text
    summary: Table
    pictures: tuple[Picture, ...]
    more: tuple[Table, ...]  # costs, single cells
    not_ok: tuple[str, ...]  # one cell each


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
    definitions: Table = field(repr=False)
