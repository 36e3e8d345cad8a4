"""report.md, in GitHub's Markdown."""

import re
from collections.abc import Iterator

from bench.report.page.content import Field, Page, SectionView, Table

# What Markdown would read as its own. A name may hold any of them, and a reason quotes a log.
SPECIAL = re.compile(r"([\\`*_{}\[\]|~#$@])")


def escape(text: str) -> str:
    """Plain text that stays plain: no markup, no HTML, no further column or line of a table."""
    text = " ".join(text.split())  # a quoted field of a CSV may hold a carriage return
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return SPECIAL.sub(r"\\\1", text)


def markdown(page: Page) -> str:
    """The page as one text."""
    return "\n".join(_page(page)) + "\n"


def _page(page: Page) -> Iterator[str]:
    yield f"# {escape(page.title)}"
    for headline in page.headlines:
        title = f"{headline.title}: " if headline.title else ""
        yield f"\n**{escape(title + headline.lead)}**\n"
        for point in headline.points:
            yield f"- {escape(point)}"
    yield f"\n{escape(page.coverage)}"
    if page.not_ok:
        yield from headed(page.not_ok, "##")
    yield from headed(page.sources, "##")
    for note in page.notes:
        yield f"\n{escape(note)}"
    if page.intro:
        yield f"\n{escape(page.intro)}\n"
        for number, section in enumerate(page.sections, start=1):
            yield f"{number}. {escape(section.title)}"
    for section in page.sections:
        yield from _section(section)
    yield f"\n<details>\n<summary>{escape(page.definitions.caption)}</summary>"
    yield from _table(page.definitions)
    yield "\n</details>"


def _section(section: SectionView) -> Iterator[str]:
    yield f"\n## {escape(section.title)}\n"
    for table in section.answer:
        yield from headed(table, "###")
    yield "\n### What it ran on\n"
    for term, text in section.facts:
        yield f"- {escape(term)}: {escape(text)}"
    yield from headed(section.summary, "###")
    for picture in section.pictures:
        yield f"\n![{escape(picture.alt)}]({picture.file})\n\n{escape(picture.caption)}"
    for table in section.more:
        yield from headed(table, "###")
    if section.not_ok:
        yield "\n### Not ok here\n\nThe reasons are in the list above.\n"
        for cell in section.not_ok:
            yield f"- {escape(cell)}"


def headed(table: Table, level: str) -> Iterator[str]:
    """A table under its caption, which is a heading of a level such as "##"."""
    yield f"\n{level} {escape(table.caption)}"
    yield from _table(table)


def _table(table: Table) -> Iterator[str]:
    yield ""
    yield _row(escape(heading.text) for heading in table.headings)
    yield _row("---:" if heading.number else "---" for heading in table.headings)
    for row in table.rows:
        yield _row(_field(field) for field in row)
    if table.note:
        yield f"\n{escape(table.note)}"


def _row(cells: Iterator[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _field(field: Field) -> str:
    text = escape(field.text)
    return f"[{text}]({field.href})" if field.href else text
