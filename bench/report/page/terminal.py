"""The verdict and the main table as plain text, for a terminal."""

from collections.abc import Sequence

from bench.merge.arms import Arm
from bench.merge.sections import Section
from bench.records.kinds import Column
from bench.report.machines import is_of_machines
from bench.report.page.content import Headline
from bench.report.page.tables import knows_sizes
from bench.statistics.text import NOT_AVAILABLE, aligned, of_count, printable, write

NOTE = "Means over seeds; in brackets n, how many seeds. Intervals are in the report."


def terminal_lines(headlines: Sequence[Headline], sections: Sequence[Section]) -> list[str]:
    """Of each section the page's verdict and its main table; no line commands a terminal."""
    lines: list[str] = []
    for headline, section in zip(headlines, sections, strict=True):
        title = [f"{headline.title}:"] if headline.title else []
        points = [f"- {point}" for point in headline.points]
        lines += [*title, headline.lead, *points, "", *main_table(section), ""]
    return [printable(line) for line in lines]


def main_table(section: Section) -> list[str]:
    """A row a configuration, headings first: its mean figures, each with the n of its seeds."""
    figures = {
        "final loss (n)": "val_loss_final",
        "perplexity (n)": "perplexity",
        **{f"{name} (n)": name for name in section.setup.declared},
        "training time, s (n)": "train_time_s",
        "memory, MiB (n)": section.memory[0],
    }
    if section.setup.program:  # of which only some is known
        figures = {title: name for title, name in figures.items() if section.values(name)}
    figures = {title: name for title, name in figures.items() if not is_of_machines(section, name)}
    columns = section.setup.columns
    sizes = ["parameters"] if knows_sizes(section) else []
    rows = [
        [
            arm.label,
            *(_mean(arm, name, columns[name]) for name in figures.values()),
            *(write(arm.constant("n_params"), of_count) for _ in sizes),
        ]
        for arm in section.arms
    ]
    table = aligned([["configuration", *figures, *sizes], *rows], left=(0,))
    return [*table, NOTE]


def _mean(arm: Arm, name: str, column: Column) -> str:
    """For example "1.7285 (5)", with the mark of a time that was disturbed at every seed."""
    spread = arm.spread(name)
    if spread.mean is None:
        return NOT_AVAILABLE
    return f"{column.write(spread.mean)}{arm.timing.mark(name)} ({spread.n})"
