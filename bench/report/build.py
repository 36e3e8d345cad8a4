"""Results folders -> the files of a report."""

import re
from collections.abc import Sequence
from pathlib import Path

from bench.atomic import write_atomically
from bench.errors import FolderError
from bench.records import write_table
from bench.report.built import Built
from bench.report.frames import cells_frame, parquet
from bench.report.merge import Merged, merge
from bench.report.page.html import html
from bench.report.page.markdown import markdown
from bench.report.page.views import COMPARISON, PICTURES, make_page, picture_file
from bench.report.plots.bars import comparison_graph
from bench.report.plots.lines import SECONDS, STEPS, loss_graph
from bench.report.plots.style import styles
from bench.report.sections import Key, Section, make_sections, titles
from bench.report.summary import COLUMNS, summary_rows
from bench.report.taint import timing_of

# Pictures of further sections: one that a new report has no section for is taken away, lest it
# be taken for a part of it.
FURTHER = re.compile(rf"({'|'.join(PICTURES)})-\d+\.png")


def build_report(folders: Sequence[Path], out: Path) -> Built:
    """Merge results folders into a report in `out`; say how many cells are ok, and what is damaged.

    Everything is computed before anything is written, and every file is replaced as a whole.
    Results folders are read only, except that `out` may be inside of one.

    Raises:
        FolderError: for a folder that is not a results folder, or an `out` that cannot be written.
        RecordError: if no folder can be read.
    """
    merged = merge(folders)
    sections = make_sections(merged)
    page = make_page(merged, sections, out)
    pictures = _pictures(merged, sections)
    rows = parquet(cells_frame(merged, sections))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            write_atomically(out / name, content)
        for file in out.iterdir():
            if FURTHER.fullmatch(file.name) and file.name not in pictures:
                file.unlink()
        write_table(out / "summary.csv", COLUMNS, summary_rows(sections))
        write_atomically(out / "runs.parquet", rows)
        write_atomically(out / "report.md", markdown(page))
        write_atomically(out / "index.html", html(page))
    except OSError as error:
        raise FolderError(f"{out} cannot be written: {error}. Give another --out.") from error
    return Built(page.coverage, len(merged.damage))


def _pictures(merged: Merged, sections: Sequence[Section]) -> dict[str, bytes]:
    """File name -> PNG; without a section the pictures are there as well, and say n/a."""
    looks = styles(arm.label for section in sections for arm in section.arms)
    drawn = list(zip(sections, titles(sections), strict=True)) or [(_nothing(merged), "no results")]
    pictures = {}
    for number, (section, title) in enumerate(drawn, start=1):
        pictures[picture_file(COMPARISON, number)] = comparison_graph(section, title, looks)
        for axis in (STEPS, SECONDS):
            pictures[picture_file(axis.file, number)] = loss_graph(section, axis, title, looks)
    return pictures


def _nothing(merged: Merged) -> Section:
    """A section without arms, of the device that was planned."""
    device = merged.cells[0].device if merged.cells else "cpu"
    key = Key("", "", "", "", device, "", None, None, "", None)
    return Section(key, arms=(), cells=(), timing=timing_of(()))
