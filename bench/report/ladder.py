"""Is it the model or the optimizer? The four contrasts of a ladder, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from bench.merge.arms import Arm
from bench.merge.asked import Asked
from bench.merge.sections import Section
from bench.report.family import Family
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder

# What a built-in model changes besides its name, from which other: a model is never one change.
BUNDLES = {("nanogpt", "nanokimi"): "mixture, SwiGLU"}
EXPLORATORY = "exploratory"


@dataclass(frozen=True)
class Step:
    name: str  # what changes
    how: str  # from what to what
    arm: Arm | None  # that it leads to; None: the interaction, which belongs to no arm
    contrast: Contrast
    verdict: str  # of the claim, if it is over the same seeds


def steps_of(ladder: Ladder, family: Family, bundle: str = "") -> list[Step]:
    """From the smallest change to the whole; `bundle` is what changes with the model."""
    base_model, base_optimizer = ladder.base_model, ladder.base_optimizer
    model, optimizer = ladder.model, ladder.optimizer
    compared = {(each.arm.model, each.arm.optimizer): each for each in family.comparisons}

    def step(name: str, how: str, top: tuple[str, str], contrast: Contrast) -> Step:
        comparison = compared[top]
        return Step(name, how, comparison.arm, contrast, comparison.verdict_on(contrast))

    return [
        step(
            "optimizer alone",
            f"{base_optimizer} → {optimizer}, on {base_model}",
            (base_model, optimizer),
            ladder.by_optimizer,
        ),
        step(
            "model alone",
            f"{base_model} → {model}{f' ({bundle})' if bundle else ''}, under {base_optimizer}",
            (model, base_optimizer),
            ladder.by_model,
        ),
        Step("interaction", "what only both together do", None, ladder.interaction, EXPLORATORY),
        step("whole difference", f"to {model} + {optimizer}", (model, optimizer), ladder.whole),
    ]


def best_first(ladders: Sequence[Ladder], family: Family) -> list[Ladder]:
    """By the arm at the top."""
    sign = -1 if family.column.more_is_better else 1
    return sorted(ladders, key=lambda ladder: sign * (ladder.whole.mean or 0.0))


def bundle_words(ladder: Ladder, section: Section, asked: Asked) -> str:
    """What changes with the model: "mixture, SwiGLU, 33 % more parameters"; empty if not known."""
    base, model = ladder.base_model, ladder.model
    kinds = (asked.bases.get(base, base), asked.bases.get(model, model))
    sizes = {arm.model: arm.constant("n_params") for arm in section.arms}
    before, after = sizes.get(base), sizes.get(model)
    parts = [BUNDLES[kinds]] if kinds in BUNDLES else []
    if before and after and before != after:
        more = "more" if after > before else "fewer"
        parts.append(f"{100 * abs(after / before - 1):.0f} % {more} parameters")
    return ", ".join(parts)
