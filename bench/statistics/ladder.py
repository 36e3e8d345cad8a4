"""Is it the model or the optimizer? From the baseline to an arm that differs in both."""

from collections.abc import Mapping
from dataclasses import dataclass

from bench.statistics.contrast import BySeed, Contrast, combined, unpaired
from bench.statistics.interval import LEAST

Arms = Mapping[tuple[str, str], BySeed]  # (model, optimizer) -> a figure a seed


@dataclass(frozen=True)
class Ladder:
    """Optimizer + model + interaction = whole.

    Contrasts are over the seeds that all four arms have; where seeds make no pairs, over all that
    each arm has.
    """

    model: str  # of the arm at its top
    optimizer: str
    base_model: str
    base_optimizer: str
    by_optimizer: Contrast  # the optimizer alone, on the baseline's model
    by_model: Contrast  # the model alone, under the baseline's optimizer
    interaction: Contrast  # what they do together beyond that: (KT - KA) - (GT - GA)
    whole: Contrast


def make_ladder(
    arms: Arms,
    base: tuple[str, str],
    top: tuple[str, str],
    *,
    relative: bool,
    confidence: float,
    least: int | None = LEAST,
    pairs: bool = True,
) -> Ladder | None:
    """The ladder from `base` to `top`, which differ in model and optimizer.

    Each contrast has a t interval of its own: no variance is pooled, since their noise differs.
    Where `relative`, contrasts are differences of logarithms. None unless all four arms are there.
    `pairs`: whether arms of one seed are one.

    Raises:
        ValueError: for a figure that is not finite, or of 0 or less where `relative`.
    """
    (base_model, base_optimizer), (model, optimizer) = base, top
    assert base_model != model
    assert base_optimizer != optimizer
    corners = [base, (base_model, optimizer), (model, base_optimizer), top]
    if any(corner not in arms for corner in corners):
        return None
    figures = [arms[corner] for corner in corners]
    sum_of = combined if pairs else unpaired

    def contrast(*signs: int) -> Contrast:
        terms = zip(signs, figures, strict=True)  # of pairs, a sign of 0 still asks for the seed
        return sum_of(*terms, relative=relative, confidence=confidence, least=least)

    return Ladder(
        model,
        optimizer,
        base_model,
        base_optimizer,
        by_optimizer=contrast(-1, 1, 0, 0),
        by_model=contrast(-1, 0, 1, 0),
        interaction=contrast(1, -1, -1, 1),
        whole=contrast(-1, 0, 0, 1),
    )
