"""Merged results -> the page's content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.merge import coverage
from bench.merge.asked import Asked
from bench.merge.merging import EndedCell, Merged
from bench.merge.raw import file_of
from bench.merge.sections import Section
from bench.report.family import Family
from bench.report.page import tables
from bench.report.page.answer import answer_tables
from bench.report.page.cells import anchors, cell_views, href_of
from bench.report.page.citing import citation, commands, commands_note
from bench.report.page.content import Field, Page, SectionView
from bench.report.page.facts import facts
from bench.report.page.headline import headline
from bench.report.page.machines import machine_tables
from bench.report.page.tables import Link
from bench.report.page.terms import terms_table
from bench.report.page.traces import traces
from bench.report.page.tuning import trials_table, tuning_tables
from bench.report.page.uncertainty import uncertainty_tables
from bench.report.plots.drawing import Drawing
from bench.report.plots.style import Style, styles
from bench.report.uncertainty import uncertainties
from bench.statistics.text import NOT_AVAILABLE


@dataclass(frozen=True)
class Part:
    """A section with all that was made of it."""

    title: str
    section: Section
    family: Family | None  # None: nothing to compare with
    drawings: tuple[Drawing, ...]
    further: tuple[Family | None, ...] = ()  # of the claims after the first
    at_cost: Family | None = None  # the first one at equal cost, where it is about equal steps


# With more cells the page shows arms only: it would no longer open at once, nor be read.
MOST_CELLS = 200


def cell_links(merged: Merged, out: Path) -> Link:
    """A cell by its run and attempt: a link to its log, in index.html to its details."""
    names = zip(merged.cells, anchors(merged.cells), strict=True)
    anchor_of = {id(cell): anchor for cell, anchor in names}

    def link(cell: EndedCell) -> Field:
        text = "-".join(part for part in (cell.run_id, cell.text("attempt")) if part)
        root = merged.sources[cell.source].path.resolve()
        log = file_of(root, root / path) if (path := cell.text("log_path")) else None
        return Field(text, href_of(log, out) if log else "", anchor_of[id(cell)])

    return link


def make_page(
    merged: Merged, asked: Asked, parts: Sequence[Part], unnoted: Sequence[Path], out: Path
) -> Page:
    """Everything that the page says, in its order.

    `unnoted` are the folders that did not take the note of this look.
    """
    few = len(merged.cells) <= MOST_CELLS
    link = cell_links(merged, out) if few else None
    looks = styles(arm.label for part in parts for arm in part.section.arms)
    names = dict.fromkeys(name for source in merged.sources for name in source.matrices)
    return Page(
        title=f"Benchmark report: {', '.join(names) or NOT_AVAILABLE}",
        headlines=tuple(
            headline(
                part.section,
                (part.family, *part.further),
                asked,
                part.title if len(parts) > 1 else "",
                part.at_cost,
            )
            for part in parts
        ),
        coverage=coverage.sentence(cell.status for cell in merged.counted),
        not_ok=tables.not_ok_table(merged, link) if link else tables.not_ok_by_arm(merged),
        sources=tables.sources_table(merged),
        intro=_intro(len(parts)),
        notes=(
            *coverage.notes(merged),
            *_claim_notes(asked, unnoted),
            *([] if few else [TOO_MANY.format(cells=len(merged.cells), most=MOST_CELLS)]),
        ),
        sections=tuple(_section(part, parts, asked, merged, link, looks) for part in parts),
        cells=cell_views(merged, out) if few else (),
        citation=citation(merged),
        commands=commands(merged),
        commands_note=commands_note(merged),
        terms=terms_table(
            [part.section.setup for part in parts],
            relative=any(part.family.relative for part in parts if part.family),
        ),
        definitions=tables.definitions_table([part.section for part in parts]),
    )


TOO_MANY = (
    "This page shows configurations only: there are {cells:,} runs, and with more than {most} it "
    "shows no single ones. They are in runs.csv and curves.csv."
)


def _claim_notes(asked: Asked, unnoted: Sequence[Path]) -> list[str]:
    names = ", ".join(path.resolve().name for path in unnoted)
    note = (
        f"This report could not be noted in the looks.csv of {names}: the next one on other "
        "figures will be tested no more strictly than this one."
    )
    return [*([asked.note] if asked.note else []), *([note] if unnoted else [])]


def _intro(sections: int) -> str:
    if not sections:
        return "No run ended ok: there is nothing to summarise."
    if sections == 1:
        return ""
    return (
        "Rows that differ in kind of machine, environment, code, text, device or settings are not "
        f"merged. They are shown in {sections} sections, each with comparisons of its own. A false "
        "verdict somewhere among all of them is likelier than within one."
    )


def _section(
    part: Part,
    parts: Sequence[Part],
    asked: Asked,
    merged: Merged,
    link: Link | None,
    looks: Mapping[str, Style],
) -> SectionView:
    """A section's part of the page; without single cells where there is no link to any."""
    section, families = part.section, (part.family, *part.further)
    sections = [each.section for each in parts]
    cells = []
    if link:
        cells = [tables.cells_table(section, merged, link)]
        cells += tables.disturbed_tables(section, merged)
    return SectionView(
        title=part.title,
        answer=(
            *answer_tables(section, families, asked),
            *(
                found
                for family in filter(None, families)
                for found in uncertainty_tables(
                    family, uncertainties(section, family, sections, merged)
                )
            ),
            *tuning_tables(section, part.family, asked),
        ),
        facts=tuple(facts(section, merged.sources)),
        summary=tables.summary_table(section, part.family.metric if part.family else ""),
        pictures=part.drawings,
        more=(
            *machine_tables(section, part.family),
            *tables.equal_cost_tables(section),
            *([] if section.setup.program else [tables.cost_table(section)]),
            *trials_table(section, asked),
            *cells,
        ),
        not_ok=tuple(
            f"{cell.model} + {cell.optimizer}, seed {cell.seed}: {cell.status}"
            for cell in section.cells
            if not cell.ok and link
        ),
        curves=traces(section, looks, seeds=link is not None),
    )
