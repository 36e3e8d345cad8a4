"""Which figures of runs that were made elsewhere are imported: --metric and --better."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from bench.errors import nearest
from bench.records.columns import COLUMNS, CONSTANTS, LOSSES, METRICS
from bench.records.tables import CURVE_COLUMNS

# What is read at an evaluation -> the column of runs.csv for the last one.
FINAL = {name: f"{name}_final" for name in ("val_loss", "train_loss", "test_loss")}
KNOWN = {*FINAL, *METRICS, *CONSTANTS} - {"steps"}  # for steps there is --steps
DECLARED = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
DIRECTIONS = ("lower", "higher")


@dataclass(frozen=True)
class Figure:
    """One figure that is imported."""

    name: str  # val_loss, train_loss, test_loss, a column of runs.csv, or a declared metric
    column: str  # of the file
    better: str = ""  # of a declared metric: lower or higher

    @property
    def final(self) -> str:
        """What runs.csv and a claim call it: a column, or the declared metric."""
        return FINAL.get(self.name, self.name)

    @property
    def is_loss(self) -> bool:
        return self.final in LOSSES

    @property
    def is_whole(self) -> bool:
        return self.final in CONSTANTS

    @property
    def decides(self) -> bool:
        """Whether a run without it has not ended ok: what is told of data it was not trained on."""
        return bool(self.better) or (self.is_loss and self.final != "train_loss_final")


def read_figures(metrics: Iterable[str], better: Iterable[str]) -> tuple[list[Figure], list[str]]:
    """The figures of --metric NAME=COLUMN and --better NAME=lower|higher; and what is wrong."""
    wrong: list[str] = []
    directions = dict(pairs("--better", better, wrong))
    figures: dict[str, Figure] = {}
    for name, column in pairs("--metric", metrics, wrong):
        figure = Figure(name, column, directions.pop(name, ""))
        if why := "is given twice. Leave one out." if figure.final in figures else _why_no(figure):
            wrong.append(f"--metric {name}: {why}")
        figures[figure.final] = figure
    wrong += [f"--better {name}: no --metric has this name." for name in directions]
    return list(figures.values()), wrong


def pairs(option: str, given: Iterable[str], wrong: list[str]) -> Iterator[tuple[str, str]]:
    """Each NAME=VALUE that an option was given; others are added to what is wrong."""
    for each in given:
        name, _, value = each.partition("=")
        if name and value:
            yield name, value
        else:
            wrong.append(f"{option} {each}: write NAME=VALUE.")


def _why_no(figure: Figure) -> str:
    """Why nothing can be imported under this name, with the remedy; empty if it can be."""
    if figure.name in KNOWN:
        return "which is better is known. Leave --better out." if figure.better else ""
    if figure.name in COLUMNS or figure.name in CURVE_COLUMNS:
        return f"this column holds no figure that can be imported. {nearest(figure.name, KNOWN)}"
    if not DECLARED.fullmatch(figure.name):
        return "a metric is called by letters, digits and _."
    if figure.better and figure.better not in DIRECTIONS:
        return f"--better is {figure.better!r}. {nearest(figure.better, DIRECTIONS)}"
    if figure.better:
        return ""
    remedy = f"--better {figure.name}=higher (or =lower). {nearest(figure.name, KNOWN)}"
    return f"is no known figure. Of your own, say which is better: {remedy}"
