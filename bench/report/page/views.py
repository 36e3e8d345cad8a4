"""Merged results -> the page's content."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from bench.report import coverage
from bench.report.asked import Asked
from bench.report.digits import NOT_AVAILABLE
from bench.report.family import Family
from bench.report.merge import Cell, Merged
from bench.report.page import tables
from bench.report.page.answer import answer_tables
from bench.report.page.content import Field, Page, Picture, SectionView
from bench.report.page.facts import facts
from bench.report.page.headline import headline
from bench.report.page.tables import Link
from bench.report.plots.gallery import Drawing
from bench.report.sections import Section


@dataclass(frozen=True)
class Part:
    """A section with all that was made of it."""

    number: int  # from 1
    title: str
    section: Section
    family: Family | None  # None: nothing to compare with
    drawings: tuple[Drawing, ...]

    def stem(self, drawing: Drawing) -> str:
        """The name of a picture's files: only further sections have a suffix."""
        return drawing.name if self.number == 1 else f"{drawing.name}-{self.number}"


def log_links(merged: Merged, out: Path) -> Link:
    """A cell's log: its path within its folder, and a link where the page can follow one.

    A link never climbs above the folder that holds the report: it would name this machine's
    folders, and lead nowhere once the report is published.
    """
    home = out.resolve().parent

    def log(cell: Cell) -> Field:
        path = cell.text("log_path")
        if not path:
            return Field(NOT_AVAILABLE)
        file = merged.sources[cell.source].path.resolve() / path
        if not (file.is_file() and file.is_relative_to(home)):
            return Field(path)
        return Field(path, href=quote(os.path.relpath(file, out.resolve())))

    return log


def make_page(
    merged: Merged, asked: Asked, parts: Sequence[Part], unnoted: Sequence[Path], out: Path
) -> Page:
    """Everything that the page says, in its order.

    `unnoted` are the folders that did not take the note of this look.
    """
    log = log_links(merged, out)
    names = dict.fromkeys(name for source in merged.sources for name in source.matrices)
    return Page(
        title=f"Benchmark report: {', '.join(names) or NOT_AVAILABLE}",
        headlines=tuple(
            headline(part.section, part.family, asked, part.title if len(parts) > 1 else "")
            for part in parts
        ),
        coverage=coverage.sentence(cell.status for cell in merged.cells),
        not_ok=tables.not_ok_table(merged, log),
        sources=tables.sources_table(merged),
        intro=_intro(len(parts)),
        notes=(*coverage.notes(merged), *_claim_notes(asked, unnoted)),
        sections=tuple(_section(part, asked, merged, log) for part in parts),
        definitions=tables.definitions_table(),
    )


def _claim_notes(asked: Asked, unnoted: Sequence[Path]) -> list[str]:
    names = ", ".join(path.resolve().name for path in unnoted)
    note = f"This look could not be noted in {names}: the next one will be taken for the same."
    return [*([asked.note] if asked.note else []), *([note] if unnoted else [])]


def _intro(sections: int) -> str:
    if not sections:
        return "No cell ended ok: there is nothing to summarise."
    if sections == 1:
        return ""
    return (
        "Rows that differ in machine, environment, code, text, device or settings are not merged. "
        f"They are shown in {sections} sections:"
    )


def _section(part: Part, asked: Asked, merged: Merged, log: Link) -> SectionView:
    section = part.section
    return SectionView(
        title=part.title,
        answer=answer_tables(section, part.family, asked),
        facts=tuple(facts(section, merged.sources)),
        summary=tables.summary_table(section),
        pictures=tuple(
            Picture(f"{part.stem(drawing)}.png", drawing.caption, drawing.alt)
            for drawing in part.drawings
        ),
        more=(
            tables.equal_cost_table(section),
            tables.cost_table(section),
            tables.cells_table(section, merged, log),
            *tables.disturbed_tables(section, merged),
        ),
        not_ok=tuple(
            f"{cell.model} + {cell.optimizer}, seed {cell.seed}: {cell.status}"
            for cell in section.cells
            if not cell.ok
        ),
    )
