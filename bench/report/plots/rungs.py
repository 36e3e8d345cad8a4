"""The rows of a ladder: the optimizer alone, the model alone, their interaction, the whole."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from bench.records.columns import HIGHER_IS_BETTER
from bench.report.family import Comparison, Family
from bench.report.plots.drawing import Scene
from bench.report.plots.style import LABEL_WIDTH, Style
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder

RUNGS = 4  # rows of one ladder
MOST_LADDERS = 2  # in one picture: a page holds no more
INTERACTION = Style("#000000", "d", "-", "")  # belongs to no arm
EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Row:
    label: str
    style: Style
    contrast: Contrast
    verdict: str  # in words; empty: none was looked for


def best_ladders(scene: Scene, family: Family) -> list[Ladder]:
    """Of more than MOST_LADDERS those with the best arms at their tops, in the plans' order.

    Those without a seed that all four arms have tell nothing.
    """
    sign = -1 if family.metric in HIGHER_IS_BETTER else 1
    found = [ladder for ladder in family.ladders if scene.shows(ladder) and ladder.whole.n]
    best = sorted(found, key=lambda ladder: sign * (ladder.whole.mean or 0.0))[:MOST_LADDERS]
    return [ladder for ladder in found if ladder in best]


def rungs(scene: Scene, ladder: Ladder, comparisons: Sequence[Comparison] | None) -> list[Row]:
    """RUNGS rows, from the smallest change to the whole; verdicts where there are comparisons."""
    judged = comparisons is not None
    claimed = {
        (comparison.arm.model, comparison.arm.optimizer): comparison
        for comparison in comparisons or ()
    }

    def row(what: str, how: str, contrast: Contrast, model: str, optimizer: str) -> Row:
        comparison = claimed.get((model, optimizer))
        verdict = comparison.verdict_on(contrast) if comparison else ""
        return Row(_label(what, how), scene.look_of(model, optimizer), contrast, verdict)

    model, optimizer = ladder.model, ladder.optimizer
    base_model, base_optimizer = ladder.base_model, ladder.base_optimizer
    return [
        row(
            "optimizer alone",
            f"{base_optimizer} → {optimizer}, on {base_model}",
            ladder.by_optimizer,
            base_model,
            optimizer,
        ),
        row(
            "model bundle alone",
            f"{base_model} → {model}, with {base_optimizer}",
            ladder.by_model,
            model,
            base_optimizer,
        ),
        Row(
            _label("interaction", "of optimizer and model"),
            INTERACTION,
            ladder.interaction,
            EXPLORATORY if judged else "",
        ),
        row("whole difference", f"to {model} + {optimizer}", ladder.whole, model, optimizer),
    ]


def _label(what: str, how: str) -> str:
    return "\n".join([what, *textwrap.wrap(how, LABEL_WIDTH + 6)])
