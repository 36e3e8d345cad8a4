"""A claim, and the answer that the page gives to it."""

from bench.merge.asked import read_asked
from bench.merge.merging import merge
from bench.merge.sections import make_sections
from bench.report.family import make_family
from bench.report.page.answer import answer_tables
from bench.report.page.content import Headline, Table
from bench.report.page.headline import headline
from tests.builders.results import Results

CLAIM = """
name: tiny
matrix: {model: [m], optimizer: [o], device: [cpu], seed: [1]}
claim: {baseline: {model: nanogpt, optimizer: adamw}, metric: val_loss_final, margin: 0.01%s}
"""
# What a seed adds to each arm alone; sums to 0, so that the mean difference is as above.
NOISE = (-0.002, -0.001, 0.0, 0.001, 0.002)


class Answer:
    """The answer that a results folder gives, as the page words it."""

    def __init__(self, results: Results, claim: str | None = CLAIM % "") -> None:
        self.folder = folder = results.write()
        if claim is not None:
            (folder / "matrix.yaml").write_text(claim)
        (self.section,) = make_sections(merge([folder]))
        self.asked = read_asked([folder])
        self.family = make_family(self.section, self.asked, look=1)

    @property
    def headline(self) -> Headline:
        return headline(self.section, [self.family], self.asked, "")

    @property
    def tables(self) -> tuple[Table, ...]:
        return answer_tables(self.section, [self.family], self.asked)

    def table(self, caption: str) -> list[dict[str, str]]:
        (found,) = [table for table in self.tables if table.caption.startswith(caption)]
        heads = [heading.text for heading in found.headings]
        return [
            {head: cell.text for head, cell in zip(heads, row, strict=True)} for row in found.rows
        ]
