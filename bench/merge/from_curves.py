"""Figures that a claim takes from curves: no row has them, as they follow from the claim too."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace

from bench.matrix.claim_forms import Terms
from bench.merge.curves import (
    Cost,
    SeedCurve,
    flops,
    loss_at,
    seconds,
    seed_lines,
    steps,
    tokens,
)
from bench.merge.merging import EndedCell
from bench.merge.sections import FromCurves, Section
from bench.records.columns import AT_EQUAL_COST, OF_A_MACHINE, OF_CURVES, TO_TARGET
from bench.records.rows import bounded
from bench.statistics.target import first_held
from bench.statistics.text import Decimals, of_count, of_loss, of_measure, write

GIGA = 1e9
# What is spent for a figure; one of which that is not told is of evaluations alone.
COSTS: dict[str, Cost] = {
    "val_loss_at_equal_time": seconds,
    "val_loss_at_equal_tokens": tokens,
    "val_loss_at_equal_flops": flops,
    "steps_to": steps,
    "tokens_to": tokens,
    "time_to": seconds,
}
# How a budget is written: what it is, in what unit, of how many, with which decimals.
UNITS: dict[Cost, tuple[str, str, float, Decimals]] = {
    seconds: ("training time", "s of training", 1, of_measure),
    tokens: ("tokens", "tokens", 1, of_count),
    flops: ("operations", "× 10⁹ FLOPs", GIGA, of_measure),
}
Figure = Callable[[SeedCurve], float | None]
# What follows from a final validation loss.
OF_LOSS = ("perplexity", "bits_per_char", "bits_per_byte")
MOST_NATS = 700.0  # whose exponential a float holds


def with_curves(section: Section, asked: Sequence[Terms]) -> Section:
    """A section whose arms have those figures that are asked for and are of curves.

    Those of a machine are taken on each by itself.
    """
    found = {}
    for terms in asked:
        if terms.metric in OF_CURVES:
            lines = [seed_lines(arm, COSTS.get(terms.metric, steps)) for arm in section.arms]
            figure, words, why_not = _figure(
                terms, [each for arm in lines for each in arm.values()]
            )
            of_arms = [{seed: figure(line) for seed, line in arm.items()} for arm in lines]
            found[terms.metric] = FromCurves(words, why_not), of_arms
    if not found:
        return section
    arms = (
        replace(arm, claimed={metric: figures[place] for metric, (_, figures) in found.items()})
        for place, arm in enumerate(section.arms)
    )
    machines = {host: with_curves(here, asked) for host, here in section.machines.items()}
    claimed = {metric: about for metric, (about, _) in found.items()}
    for metric in claimed.keys() & {*OF_A_MACHINE} if machines else ():
        claimed[metric] = _on_machines([here.claimed[metric] for here in machines.values()])
    return replace(section, arms=tuple(arms), claimed=claimed, machines=machines)


def _on_machines(found: Sequence[FromCurves]) -> FromCurves:
    """At what each machine takes a figure of its own; it decides nothing where one's does not."""
    words = dict.fromkeys(each.words for each in found)
    told = (
        words.popitem()[0] if len(words) == 1 else "at each machine's own, where its first run ends"
    )
    return FromCurves(told, next((each.why_not for each in found if each.why_not), ""))


def in_unit_of(column: str, section: Section, metric: str) -> Section:
    """A section whose losses of curves are what `column` makes of a final loss: its margin's unit.

    Perplexity is the loss's exponential; bits a character and a byte are a multiple, as each row
    tells it.
    """
    if column not in OF_LOSS:
        return section
    arms = (
        replace(
            arm,
            claimed={
                **arm.claimed,
                metric: {
                    seed: _converted(column, loss, arm.by_seed.get(seed))
                    for seed, loss in arm.claimed.get(metric, {}).items()
                },
            },
        )
        for arm in section.arms
    )
    machines = {host: in_unit_of(column, here, metric) for host, here in section.machines.items()}
    return replace(section, arms=tuple(arms), machines=machines)


def _converted(column: str, loss: float | None, cell: EndedCell | None) -> float | None:
    if loss is None or cell is None:
        return None
    if column == "perplexity":
        return bounded(math.exp(min(loss, MOST_NATS)))
    final, figure = cell.number("val_loss_final"), cell.number(column)
    return loss * figure / final if final and figure is not None else None


def _figure(terms: Terms, lines: Sequence[SeedCurve]) -> tuple[Figure, str, str]:
    """(the figure of a curve, at what it is taken, why it decides nothing)."""
    metric, target, last = terms.metric, terms.target, terms.tail
    if metric in AT_EQUAL_COST:
        return _at_budget(terms, lines)
    if metric in TO_TARGET and target is not None:
        return (
            lambda line: _spent(line, target),
            f"a validation loss of {write(target, of_loss)}",
            "",
        )
    if metric == "val_loss_tail" and last is not None:
        return lambda line: _tail(line, last), f"{last} of them", ""
    # A matrix that was written by hand after its runs.
    return lambda line: None, "", "the claim does not say at what it is taken"


def _at_budget(terms: Terms, lines: Sequence[SeedCurve]) -> tuple[Figure, str, str]:
    """A budget that is not given is the least that any finished run of any arm spent.

    It follows from costs alone, before any loss is looked at.
    """
    what, unit, of, decimals = UNITS[COSTS[terms.metric]]
    ends = [float(line.x[-1]) for line in lines]
    if not ends:
        return lambda line: None, "", f"no run tells its {what}"
    budget = min(ends) if terms.budget is None else terms.budget
    words = f"at {write(budget / of, decimals)} {unit}"
    if terms.budget is None:
        words += ", where the first run ends"
    early = sum(end < budget for end in ends)
    why = f"{early} of {len(ends)} runs end before that" if early else ""
    return lambda line: loss_at(line, budget), words, why


def _spent(line: SeedCurve, target: float) -> float | None:
    index = first_held(line.y.tolist(), target)
    return None if index is None else float(line.x[index])


def _tail(line: SeedCurve, last: int) -> float | None:
    """Without the evaluation before the first step; None where there are fewer."""
    losses = line.y[line.x > 0]
    return statistics.fmean(losses[-last:].tolist()) if len(losses) >= last else None
