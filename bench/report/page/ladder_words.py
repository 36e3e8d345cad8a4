"""The ladder in words: which step changes what."""

from dataclasses import dataclass

from bench.merge.asked import Asked
from bench.merge.sections import Section
from bench.report.family import Family
from bench.statistics.contrast import Contrast
from bench.statistics.ladder import Ladder

# What a built-in model changes besides its name, from which other: a model is never one change.
BUNDLES = {("nanogpt", "nanokimi"): "mixture, SwiGLU"}


@dataclass(frozen=True)
class Step:
    name: str
    what: str
    to: str  # the arm it leads to; empty for the interaction
    contrast: Contrast  # of the claim's metric
    time: Contrast | None  # of training time, as logarithms of ratios
    verdict: str


def steps_of(section: Section, family: Family, asked: Asked) -> list[list[Step]]:
    """The steps of each ladder of a section."""
    times = {(ladder.model, ladder.optimizer): ladder for ladder in family.time_ladders}
    return [
        _steps(section, family, asked, ladder, times.get((ladder.model, ladder.optimizer)))
        for ladder in family.ladders
    ]


def _steps(
    section: Section, family: Family, asked: Asked, ladder: Ladder, times: Ladder | None
) -> list[Step]:
    claimed = {(each.arm.model, each.arm.optimizer): each for each in family.comparisons}
    labels = {(arm.model, arm.optimizer): arm.label for arm in section.arms}
    base, top = ladder.base_model, (ladder.model, ladder.optimizer)
    with_optimizer = (ladder.base_model, ladder.optimizer)
    with_model = (ladder.model, ladder.base_optimizer)
    bundle = bundle_words(section, asked, base, ladder.model)
    return [
        Step(
            "optimizer alone",
            f"{ladder.base_optimizer} → {ladder.optimizer}, on {base}",
            labels[with_optimizer],
            ladder.by_optimizer,
            times.by_optimizer if times else None,
            claimed[with_optimizer].verdict_on(ladder.by_optimizer),
        ),
        Step(
            f"model {bundle} alone" if bundle else "model alone",
            f"{base} → {ladder.model}, under {ladder.base_optimizer}",
            labels[with_model],
            ladder.by_model,
            times.by_model if times else None,
            claimed[with_model].verdict_on(ladder.by_model),
        ),
        Step(
            "interaction",
            "what both together do beyond that",
            "",
            ladder.interaction,
            times.interaction if times else None,
            "exploratory",
        ),
        Step(
            "whole difference",
            f"{base} + {ladder.base_optimizer} → {ladder.model} + {ladder.optimizer}",
            labels[top],
            ladder.whole,
            times.whole if times else None,
            claimed[top].verdict_on(ladder.whole),
        ),
    ]


def bundle_words(section: Section, asked: Asked, base: str, model: str) -> str:
    """For example "bundle (mixture, SwiGLU, 33 % more parameters)"; empty if nothing is known."""
    kinds = (asked.bases.get(base, base), asked.bases.get(model, model))
    sizes = {arm.model: arm.constant("n_params") for arm in section.arms}
    before, after = sizes.get(base), sizes.get(model)
    parts = [BUNDLES[kinds]] if kinds in BUNDLES else []
    if before and after and before != after:
        more = "more" if after > before else "fewer"
        parts.append(f"{abs(after / before - 1):.0%} {more} parameters".replace("%", " %"))
    return f"bundle ({', '.join(parts)})" if parts else ""
