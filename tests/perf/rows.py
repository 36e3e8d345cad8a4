"""A row of `make perf`: what was measured, its target, and whether it was reached."""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

HEAD = ("what", "target", "figure", "spread", "")


@dataclass(frozen=True)
class Row:
    """The median of repeated measurements against a target; its spread are the quartiles."""

    what: str
    values: tuple[float, ...]
    at_least: float | None = None
    at_most: float | None = None
    equals: float | None = None
    unit: str = "x"  # a ratio, unless it says otherwise

    @property
    def figure(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> tuple[float, float]:
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high

    @property
    def passes(self) -> bool:
        """A row without a target only tells."""
        figure = self.figure
        return (
            (self.at_least is None or figure >= self.at_least)
            and (self.at_most is None or figure <= self.at_most)
            and (self.equals is None or figure == self.equals)
        )

    def cells(self) -> tuple[str, ...]:
        targets = [
            f"{sign} {target:g} {self.unit}"
            for sign, target in ((">=", self.at_least), ("<=", self.at_most), ("=", self.equals))
            if target is not None
        ]
        low, high = self.spread
        spread = f"{low:.3g} to {high:.3g} (n = {len(self.values)})"
        verdict = ("pass" if self.passes else "SHORT") if targets else ""
        return self.what, " ".join(targets), f"{self.figure:.3g} {self.unit}", spread, verdict


def table(rows: Iterable[Row]) -> str:
    """The rows as a Markdown table, columns lined up."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    texts = [
        "| "
        + " | ".join(text.ljust(width) for text, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([texts[0], rule, *texts[1:]])


def interleaved(measures: Sequence[Callable[[], float]], rounds: int) -> list[tuple[float, ...]]:
    """Each round measures all, forwards and backwards in turn: a drift favours none.

    Returns for each measure its `rounds` values.
    """
    values: list[list[float]] = [[] for _ in measures]
    for round_ in range(rounds):
        order = range(len(measures)) if round_ % 2 == 0 else reversed(range(len(measures)))
        for index in order:
            values[index].append(measures[index]())
    return [tuple(each) for each in values]


def ratios(of: Sequence[float], to: Sequence[float]) -> tuple[float, ...]:
    """Round by round, `of` over `to`."""
    return tuple(a / b for a, b in zip(of, to, strict=True))
