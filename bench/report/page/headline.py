"""The verdict in sentences, for the first thing that a reader sees."""

from collections.abc import Sequence

from bench.report.asked import Asked
from bench.report.digits import write
from bench.report.family import Comparison, Family
from bench.report.page.answer import (
    metric_decimals,
    metric_words,
    percent,
    write_interval,
    write_mean,
)
from bench.report.page.content import Headline
from bench.report.page.ladder_words import bundle_words
from bench.report.sections import Section
from bench.report.statistics.ladder import Ladder
from bench.report.statistics.verdict import Verdict

FEW = 6  # arms that are told by name
ORDER = list(Verdict)  # from better to n/a
PHRASES = {
    Verdict.TOO_FEW: ("has no verdict yet", "have no verdict yet"),
    Verdict.NOT_AVAILABLE: ("cannot be compared", "cannot be compared"),
}


def headline(section: Section, family: Family | None, asked: Asked, title: str) -> Headline:
    """What is decided in a section, by how much, and whether it is the model or the optimizer.

    `title` names the section where there are several; else it is empty.
    """
    if family is None:
        return Headline(title, _nothing(section, asked))
    found = sorted(family.comparisons, key=lambda each: ORDER.index(each.verdict))
    told = found if len(found) <= FEW else _furthest(found)
    points = [_one(each, family) for each in told]
    if ladder := next(iter(family.ladders), None):
        points += _model_or_optimizer(section, family, asked, ladder)
    return Headline(title, f"{_opening(family)} {_verdicts(found)}.", tuple(points))


def _nothing(section: Section, asked: Asked) -> str:
    if asked.claim is None:
        return "One arm alone: there is nothing to compare it with."
    baseline = f"{asked.claim.baseline.model} + {asked.claim.baseline.optimizer}"
    count = sum(f"{arm.model} + {arm.optimizer}" == baseline for arm in section.arms)
    if count > 1:
        return (
            f"Nothing is tested: {count} arms are called {baseline}, the claim's baseline, with "
            "different settings."
        )
    if count == 1:
        return f"Nothing is tested: {baseline}, the claim's baseline, is the only arm here."
    return f"Nothing is tested: {baseline}, the claim's baseline, is not among these arms."


def _opening(family: Family) -> str:
    margin = family.margin and f", margin {write(family.margin, metric_decimals(family.metric))}"
    what = f"{metric_words(family.metric)} against {family.baseline.label}{margin or ''}:"
    if family.exploratory:
        return f"No claim was made before the run. Exploratory, {what}"
    return what[0].upper() + what[1:]


def _verdicts(found: Sequence[Comparison]) -> str:
    """For example "a and b are better, c is undecided"; of many arms their number by verdict."""
    by_verdict = {
        verdict: [each.arm.label for each in found if each.verdict is verdict] for verdict in ORDER
    }
    phrases = []
    for verdict, labels in by_verdict.items():
        if not labels:
            continue
        one, several = PHRASES.get(verdict, (f"is {verdict}", f"are {verdict}"))
        who = _listed(labels) if len(found) <= FEW else f"{len(labels)} of {len(found)} arms"
        phrases.append(f"{who} {one if len(labels) == 1 else several}")
    return ", ".join(phrases)


def _listed(labels: Sequence[str]) -> str:
    *first, last = labels
    return f"{', '.join(first)} and {last}" if first else last


def _furthest(found: Sequence[Comparison]) -> list[Comparison]:
    """The arms that are better, those that are so by most."""
    better = [each for each in found if each.verdict is Verdict.BETTER]
    return sorted(better, key=lambda each: -abs(each.contrast.mean or 0.0))[:FEW]


def _one(each: Comparison, family: Family) -> str:
    """For example "nanokimi + truemuon: -0.0410 (99.17 % interval -0.0470 to -0.0350), better"."""
    decimals = metric_decimals(family.metric)
    why = f" ({each.judgement.why})" if each.judgement.why else ""
    verdict = f"{each.verdict.value}{why}"
    if each.contrast.mean is None:
        return f"{each.arm.label}: {verdict}"
    level = percent(family.confidence)
    interval = f" ({level} interval {write_interval(each.contrast, decimals)})"
    known = interval if each.contrast.interval is not None else ""
    return f"{each.arm.label}: {write_mean(each.contrast, decimals)}{known}, {verdict}"


def _model_or_optimizer(
    section: Section, family: Family, asked: Asked, ladder: Ladder
) -> list[str]:
    """What optimizer, model and both together add to the first ladder's whole difference."""
    decimals = metric_decimals(family.metric)
    contrasts = (ladder.whole, ladder.by_optimizer, ladder.by_model, ladder.interaction)
    if not ladder.whole.n:
        return []
    whole, optimizer, model, both = (write_mean(contrast, decimals) for contrast in contrasts)
    bundle = bundle_words(section, asked, ladder.base_model, ladder.model)
    words = f"the model {bundle}" if bundle else "the model"
    return [
        f"Model or optimizer? Of {whole} from {family.baseline.label} to {ladder.model} + "
        f"{ladder.optimizer}, {ladder.optimizer} alone makes {optimizer}, {words} alone {model}, "
        f"their interaction {both}."
    ]
