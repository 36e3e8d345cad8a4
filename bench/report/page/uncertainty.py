"""Where the uncertainty of a claim comes from, as a table."""

from collections.abc import Sequence

from bench.report.family import Family
from bench.report.page.answer import decimals_of, write_mean
from bench.report.page.content import Columns, Heading, Table, number, table
from bench.report.uncertainty import Uncertainty
from bench.report.words import margin_words
from bench.statistics.text import counted, plural, sentences, span, write

NOTE = (
    "Standard errors of the difference; the interval above is made of the {units}' alone. "
    "Rounding: the same seeds on other processors or other numbers of threads, which add in "
    "another order; it is part of what seeds vary. Text: what other passages like those of the "
    "split would change, which no seed varies; a text of another kind changes more."
)
UNKNOWN = (
    "n/a: nothing ran on another processor or number of threads, or the losses of single windows "
    "were not kept."
)
BLOCKS = (
    "It is told by a paired bootstrap of {parts} windows (or parts) of the last evaluation, in "
    "blocks of {neighbours} neighbours: as many as are alike (Politis and White)."
)


def uncertainty_tables(family: Family, found: Sequence[Uncertainty]) -> list[Table]:
    """None where no error is known at all."""
    if not any(each.seeds is not None or each.text is not None for each in found):
        return []
    decimals, units = decimals_of(family), plural(family.unit)

    def told(error: float | None) -> str:
        share = error is not None and family.margin and f" ({100 * error / family.margin:.0f} %)"
        return write(error, decimals) + (share or "")

    columns: Columns[Uncertainty] = [
        (Heading("configuration"), lambda each: each.comparison.arm.label),
        (number("difference"), lambda each: write_mean(each.comparison.contrast, decimals)),
        (number(units), lambda each: told(each.seeds)),
        (number("rounding"), lambda each: told(each.rounding) + _repeated(each)),
        (number("text"), lambda each: told(each.text)),
        (number(f"{units} and text"), lambda each: told(each.seeds_and_text)),
    ]
    beside = f", beside the margin, {margin_words(family)}" if family.margin else ""
    told_by_text = [each for each in found if each.parts]
    all_known = all(None not in (each.rounding, each.text) for each in found)
    note = sentences(
        NOTE.format(units=units),
        _blocks(told_by_text) if told_by_text else "",
        "In brackets: of the margin." if family.margin else "",
        "" if all_known else UNKNOWN,
    )
    return [table(f"Where the uncertainty comes from{beside}", found, columns, note)]


def _blocks(found: Sequence[Uncertainty]) -> str:
    parts, blocks = ([*each] for each in zip(*((of.parts, of.block) for of in found), strict=True))
    return BLOCKS.format(parts=span(parts), neighbours=span(blocks))


def _repeated(each: Uncertainty) -> str:
    return f", {counted(each.repeated, 'seed')} again" if each.repeated else ""
