"""Results folders -> the files of a report."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.errors import FolderError
from bench.merge.asked import Asked, read_asked
from bench.merge.frames import cells_frame, parquet, summary_columns, summary_rows
from bench.merge.from_curves import with_curves
from bench.merge.merging import Merged, merge
from bench.merge.sections import Section, make_sections
from bench.records.rows import write_table
from bench.report.built import Built, Looked
from bench.report.family import Family, family_at_equal_cost, make_family
from bench.report.fixed import fixed_family
from bench.report.looks import claim_fingerprint, fingerprint, look_number, note_look
from bench.report.machines import apart
from bench.report.page.html import html
from bench.report.page.markdown import markdown
from bench.report.page.terminal import terminal_lines
from bench.report.page.views import Part, make_page
from bench.report.plots.drawing import make_scene
from bench.report.plots.gallery import NAMES, draw_all
from bench.report.plots.style import styles
from bench.report.titles import titles

# A picture that a new report has not is taken away, lest it be taken for a part of it.
PICTURE = re.compile(rf"({'|'.join(NAMES)})(-\d+)?\.(png|svg)")


def build_report(folders: Sequence[Path], out: Path) -> Built:
    """Merge results folders into a report in `out`; say how many cells are ok, and what is damaged.

    Everything is computed before anything is written, and every file is replaced as a whole. Of a
    results folder only looks.csv is written to; `out` may be inside of one.

    Raises:
        FolderError: for a folder that is not a results folder, or an `out` that cannot be written.
        RecordError: if no folder can be read.
    """
    merged = merge(folders)
    paths = [source.path for source in merged.sources]
    asked = read_asked(paths)
    claimed = list(filter(None, asked.claims))
    found = (each for section in make_sections(merged) for each in apart(section, asked))
    sections = [with_curves(section, claimed) for section in found]
    families = _families(sections, asked, paths)
    parts = _parts(merged, sections, families, asked)
    compared = [family for each in families for family in each if family]
    unnoted = note_look(paths, compared)
    page = make_page(merged, asked, parts, unnoted, out)
    pictures = _pictures(parts)
    rows = parquet(cells_frame(merged, sections))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            write_atomically(out / name, content)
        for file in out.iterdir():
            if PICTURE.fullmatch(file.name) and file.name not in pictures:
                file.unlink()
        write_table(out / "summary.csv", summary_columns(sections), summary_rows(sections))
        write_atomically(out / "runs.parquet", rows)
        write_atomically(out / "report.md", markdown(page))
        write_atomically(out / "index.html", html(page))
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error}. Give another --out.") from error
    told = terminal_lines(page.headlines, sections)
    claim, figures = claim_fingerprint(compared), fingerprint(compared)
    looked = Looked(claim, figures) if claim and figures else None
    return Built(page.coverage, len(merged.damage), looked, told)


def _families(
    sections: Sequence[Section], asked: Asked, folders: Sequence[Path]
) -> list[list[Family | None]]:
    """Each section's comparisons, claim by claim, tested as at the look that these figures are."""

    def at(look: int) -> list[list[Family | None]]:
        if asked.fixed:
            return [[fixed_family(section, asked, asked.fixed, look)] for section in sections]
        return [
            [make_family(section, asked, look, terms) for terms in asked.claims]
            for section in sections
        ]

    first = at(look=1)
    figures = fingerprint([family for each in first for family in each if family])
    look = look_number(folders, figures)
    return first if look == 1 else at(look)


def _parts(
    merged: Merged,
    sections: Sequence[Section],
    families: Sequence[Sequence[Family | None]],
    asked: Asked,
) -> list[Part]:
    looks = styles(arm.label for section in sections for arm in section.arms)
    parts = []
    found = zip(sections, titles(sections), families, strict=True)
    for number, (section, title, (family, *further)) in enumerate(found, start=1):
        is_compared = family is not None and not family.fixed
        at_cost = family_at_equal_cost(section, asked, family) if family and is_compared else None
        drawings = draw_all(make_scene(section, family, merged, title, looks, asked, at_cost))
        if number > 1:  # only further sections have a suffix
            drawings = [replace(each, name=f"{each.name}-{number}") for each in drawings]
        parts.append(Part(title, section, family, tuple(drawings), tuple(further), at_cost))
    return parts


def _pictures(parts: Sequence[Part]) -> Mapping[str, bytes]:
    """File name -> content."""
    return {
        f"{drawing.name}.{suffix}": content
        for part in parts
        for drawing in part.drawings
        for suffix, content in (("png", drawing.files.png), ("svg", drawing.files.svg))
    }
