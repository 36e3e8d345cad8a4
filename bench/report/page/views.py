"""Merged results -> the page's content."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from urllib.parse import quote

from bench.report import coverage
from bench.report.columns import memory_columns
from bench.report.digits import NOT_AVAILABLE, of_loss, write_spread
from bench.report.merge import Cell, Merged
from bench.report.page import tables
from bench.report.page.content import Field, Page, Picture, SectionView, sentences
from bench.report.page.facts import facts
from bench.report.page.tables import Link
from bench.report.plots.lines import SECONDS, STEPS
from bench.report.sections import Section, titles
from bench.report.taint import short_note

COMPARISON = "comparison_graph"
PICTURES = (COMPARISON, STEPS.file, SECONDS.file)


def picture_file(name: str, number: int) -> str:
    """The file of a picture of section `number`, from 1: only further sections have a suffix."""
    return f"{name}.png" if number == 1 else f"{name}-{number}.png"


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


def make_page(merged: Merged, sections: Sequence[Section], out: Path) -> Page:
    """Everything that the page says, in its order."""
    log = log_links(merged, out)
    names = dict.fromkeys(name for source in merged.sources for name in source.matrices)
    headed = zip(sections, titles(sections), strict=True)
    return Page(
        title=f"Benchmark report: {', '.join(names) or NOT_AVAILABLE}",
        coverage=coverage.sentence(cell.status for cell in merged.cells),
        not_ok=tables.not_ok_table(merged, log),
        sources=tables.sources_table(merged),
        intro=_intro(len(sections)),
        notes=tuple(coverage.notes(merged)),
        sections=tuple(
            _section(number, section, title, merged, log)
            for number, (section, title) in enumerate(headed, start=1)
        ),
        definitions=tables.definitions_table(),
    )


def _intro(sections: int) -> str:
    if not sections:
        return (
            "No cell ended ok: there is nothing to summarise, and the pictures beside this page "
            f"say {NOT_AVAILABLE}."
        )
    if sections == 1:
        return ""
    return (
        "Rows that differ in machine, environment, code, text, device or settings are not merged. "
        f"They are shown in {sections} sections:"
    )


def _section(number: int, section: Section, title: str, merged: Merged, log: Link) -> SectionView:
    return SectionView(
        title=title,
        facts=tuple(facts(section, merged.sources)),
        summary=tables.summary_table(section),
        pictures=(
            _comparison(number, section),
            _over_steps(number, section),
            _over_seconds(number, section),
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


STEPS_CAPTION = "Validation loss against training steps."
SECONDS_CAPTION = (
    "Validation loss against training time, which leaves out evaluation, warm-up and start-up. "
    "A mean ends where its shortest seed ends; between evaluations it is linear."
)
CURVE_CAPTION = (
    "Thick lines: mean over seeds ({n}); bands: ± 1 sample standard deviation; thin lines: "
    "single seeds that ended ok. The loss axis does not start at 0 and ends at the highest loss "
    "after the first tenth of the evaluations: untrained models lie far above it."
)
BARS_CAPTION = (
    "Bars: mean over seeds ({n}); error bars: ± 1 sample standard deviation over seeds; points: "
    "single seeds. Training time leaves out evaluation, warm-up and start-up; "
    "memory is {memory}; inference time is the median forward pass of one batch."
)

MEMORY_WORDS = {
    "gpu_mem_allocated_peak_mib": "the peak of what torch allocated on the GPU",
    "host_rss_peak_mib": "the peak resident memory of the cell's process",
}


def _comparison(number: int, section: Section) -> Picture:
    memory = MEMORY_WORDS[memory_columns(section.key.device)[0]]
    return Picture(
        file=picture_file(COMPARISON, number),
        caption=sentences(
            BARS_CAPTION.format(n=_n(arm.n_seeds for arm in section.arms), memory=memory),
            short_note(section.timing),
        ),
        alt="Bar charts of final validation loss, training time, peak memory and inference time "
        f"by arm. Final validation loss: {_losses(section)}.",
    )


def _over_steps(number: int, section: Section) -> Picture:
    n = _n(arm.n_seeds for arm in section.arms)
    return _curves(number, section, STEPS.file, STEPS_CAPTION, CURVE_CAPTION.format(n=n))


def _over_seconds(number: int, section: Section) -> Picture:
    n = _n(arm.n_seeds_timing for arm in section.arms)
    how = sentences(CURVE_CAPTION.format(n=n), short_note(section.timing))
    return _curves(number, section, SECONDS.file, SECONDS_CAPTION, how)


def _curves(number: int, section: Section, name: str, what: str, how: str) -> Picture:
    return Picture(
        file=picture_file(name, number),
        caption=f"{what} {how}",
        alt=f"Line chart. {what} Final validation loss: {_losses(section)}.",
    )


def _losses(section: Section) -> str:
    spreads = [(arm.label, arm.spread("val_loss_final")) for arm in section.arms]
    return ", ".join(f"{label} {write_spread(s.mean, s.sd, of_loss)}" for label, s in spreads)


def _n(seeds: Iterable[int]) -> str:
    """For example "n = 3" or "n = 2 to 3" of each arm's seeds; an arm without any has no mean."""
    counts = sorted(set(seeds) - {0})
    return f"n = {counts[0]}" + (f" to {counts[-1]}" if len(counts) > 1 else "")
