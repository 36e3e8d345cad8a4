"""The verdict in sentences, for the first thing that a reader sees."""

from collections.abc import Iterator, Mapping, Sequence

from bench.merge.asked import Asked
from bench.merge.disturbed import short_note
from bench.merge.sections import Section
from bench.records.kinds import LOSS
from bench.report.family import (
    AT_EQUAL_STEPS,
    Comparison,
    Family,
    has_metric,
    least_seeds,
    tuned_part,
)
from bench.report.ladder import best_first, bundle_words
from bench.report.machines import MACHINE
from bench.report.page.answer import decimals_of, write_interval, write_mean
from bench.report.page.both import otherwise, told_at_cost
from bench.report.page.content import Headline
from bench.report.page.fixed import fixed_lead, fixed_points
from bench.report.page.machines import machine_notes
from bench.report.page.tuning import edge_words, split_points
from bench.report.words import (
    COST,
    claimed_words,
    count_words,
    direction_words,
    margin_words,
    percent,
)
from bench.statistics.contrast import Contrast
from bench.statistics.ends import End
from bench.statistics.text import counted, plural, sentences, span
from bench.statistics.verdict import Verdict

UNTUNED = "at these {what}: nothing was tuned here"
FEW = 6  # arms that are told by name
ORDER = list(Verdict)  # from better to n/a
Words = Mapping[Verdict, str]
PHRASES = {
    Verdict.TOO_FEW: ("has no verdict yet", "have no verdict yet"),
    Verdict.NOT_AVAILABLE: ("cannot be compared", "cannot be compared"),
}


def headline(
    section: Section,
    families: Sequence[Family | None],
    asked: Asked,
    title: str,
    at_cost: Family | None = None,
) -> Headline:
    """What is decided in a section, by how much, and whether it is the model or the optimizer.

    `families`: of each claim. `title` names the section where there are several; else it is empty.
    `at_cost`: what is claimed at equal steps, at equal cost; where the two disagree the first
    sentence says so.
    """
    family, *further = families
    note = short_note(section.timing)
    notes = (*((note,) if note else ()), *machine_notes(section), *_uneven(section))
    also = [_further(section, each, asked, place) for place, each in enumerate(further, start=1)]
    if family is None:
        return Headline(title, _nothing(section, asked), (*also, *notes))
    if family.fixed:
        return Headline(title, fixed_lead(family, rests_on), (*fixed_points(family), *notes))
    found = sorted(family.comparisons, key=lambda each: ORDER.index(each.verdict))
    told = found if len(found) <= FEW else _furthest(found)
    points = [_one(each, family) for each in told]
    if len(told) < len(found):
        points.append(f"These {len(told)} differ most; all {len(found)} are in the table below.")
    if at_cost and family.is_tested and len(found) <= FEW:
        points.append(told_at_cost(at_cost))
    points += [*split_points(section, family, asked), *also]
    points += _model_or_optimizer(section, family, asked)
    lead = f"{_opening(family, _budget(section, asked))} {_verdicts(found, _words(family))}"
    # Whether anybody tuned what was made elsewhere is not known.
    as_is = not (section.is_tuned or section.is_imported)
    if family.is_tested and family.column.kind == LOSS and as_is:
        lead += (
            f", {UNTUNED.format(what='settings' if section.setup.program else 'learning rates')}"
        )
    if section.is_tuned and family.is_tested:
        lead += edge_words(section, asked)
    claimed = [each for each in further if each and each.metric in COST]
    for each in (*claimed, *([at_cost] if at_cost else ())):
        if family.is_tested and family.metric in AT_EQUAL_STEPS:
            lead += otherwise(family, each, is_claimed=each in claimed)
    return Headline(title, f"{lead}.", (*points, *notes))


def _further(section: Section, family: Family | None, asked: Asked, place: int) -> str:
    """A claim after the first, in a sentence."""
    if family is None:
        terms = asked.claims[place]
        metric = terms.metric if terms else ""
        return f"Also claimed, and not tested: no run here has {metric}."
    found = sorted(family.comparisons, key=lambda each: ORDER.index(each.verdict))
    what = claimed_words(family)
    margin = f", margin {margin_words(family)}" if family.margin else ""
    return f"Also claimed, {what}{margin}: {_verdicts(found, _words(family))}."


def _uneven(section: Section) -> Iterator[str]:
    """The configurations whose runs ended at different steps: only a program may end any time."""
    for arm in section.arms if section.setup.program else ():
        steps = sorted({int(steps) for cell in arm.ok if (steps := cell.text("steps"))})
        if len(steps) > 1:
            yield (
                f"Finished runs of {arm.label} ended at steps {steps[0]:,} to {steps[-1]:,}, and "
                "count alike: program.steps in the matrix makes those that stop early fail."
            )


def _nothing(section: Section, asked: Asked) -> str:
    if section.is_tuned:
        section = tuned_part(section)
        if not section.arms:
            return "Nothing is tested: the claim is about tuned configurations, and none is here."
    if asked.fixed:
        arm = f"{asked.fixed.arm.model} + {asked.fixed.arm.optimizer}"
        return f"Nothing is tested: {arm}, which the claim is about, is not here, or not once."
    if asked.claim is None:
        return "There is one configuration alone: nothing to compare it with."
    if not has_metric(section, asked.claim.metric):
        return f"Nothing is tested: no run here has {asked.claim.metric}, which the claim is about."
    baseline = f"{asked.claim.baseline.model} + {asked.claim.baseline.optimizer}"
    names = (f"{arm.model} + {arm.untuned or arm.optimizer}" for arm in section.arms)
    count = sum(name == baseline for name in names)
    if count > 1:
        return (
            f"Nothing is tested: {count} configurations are called {baseline}, the claim's "
            "baseline, with different settings."
        )
    where = "the only configuration" if count else "not among the configurations"
    return f"Nothing is tested: {baseline}, the claim's baseline, is {where} here."


def _budget(section: Section, asked: Asked) -> str:
    """What follows the margin where arms were tuned; else empty."""
    if not section.is_tuned:
        return ""
    if asked.tune is None:
        return ", each configuration tuned"
    tune = asked.tune
    seeds = counted(len(tune.seeds) // tune.studies, "seed")
    trials = (
        f"{tune.trials} trials"
        if isinstance(tune.trials, int)
        else f"{tune.trials.per_setting} trials for each of its settings"
    )
    around = f" and {tune.refine} around the best" if tune.refine else ""
    often = f" {tune.studies} times" if tune.studies > 1 else ""
    return f", each configuration tuned{often} in {trials}{around} on {seeds}"


def _opening(family: Family, budget: str) -> str:
    margin = f", margin {margin_words(family)}" if family.margin else ""
    metric = claimed_words(family)
    what = f"{metric} against {family.baseline.label}{margin}{budget}:"
    if family.exploratory and not family.note:
        return f"No claim was made before the run. Exploratory, {what}"
    begun = what[0].upper() + what[1:] if family.column.title else what  # else it is a name
    return sentences(family.note, begun)


def _words(family: Family) -> Words:
    """Of better and worse what they are: "better (faster)"; of a loss the verdict says it."""
    better, worse = direction_words(family.column, family.relative)
    return {Verdict.BETTER: better, Verdict.WORSE: worse}


def _verdicts(found: Sequence[Comparison], words: Words) -> str:
    """For example "a and b are better, c is undecided, each on 5 of 5 planned seeds".

    Where arms rest on different seeds, each verdict has its own; of many arms their number by
    verdict is told, and the seeds in all.
    """
    if len(found) > FEW:
        return f"{', '.join(_phrases(found, words, len(found)))}, {_in_all(found)}"
    rests = dict.fromkeys(map(rests_on, found))
    if len(rests) == 1:
        each = "each " if len(found) > 1 else ""
        return (
            f"{', '.join(_phrases(found, words))}{', ' if each else ' '}{each}{next(iter(rests))}"
        )
    apart = ([each for each in found if rests_on(each) == rest] for rest in rests)
    return "; ".join(
        f"{', '.join(_phrases(alike, words))} {rest}"
        for alike, rest in zip(apart, rests, strict=True)
    )


def _phrases(found: Sequence[Comparison], words: Words, of: int = 0) -> Iterator[str]:
    """Who has which verdict, from better to n/a; how many of so many arms, where that is given."""
    for verdict in ORDER:
        mine = [each for each in found if each.verdict is verdict]
        labels = [each.arm.label for each in mine]
        if labels:
            # Where failures have a say in it, a better arm need not be a faster one.
            is_so = all(each.ends.all_finished for each in mine)
            so = f" ({word})" if is_so and (word := words.get(verdict)) else ""
            one, several = PHRASES.get(verdict, (f"is {verdict}{so}", f"are {verdict}{so}"))
            who = f"{len(labels)} of {of} configurations" if of else _listed(labels)
            yield f"{who} {one if len(labels) == 1 else several}"


def _listed(labels: Sequence[str]) -> str:
    *first, last = labels
    return f"{', '.join(first)} and {last}" if first else last


def rests_on(each: Comparison) -> str:
    """For example "on 5 of 20 planned seeds, 15 diverged in both".

    Without pairs "on 5 runs against 4 of 5 planned each, 1 diverged in the baseline".
    """
    if each.contrast.is_paired:
        what = f"{each.contrast.n} of {_planned(each)}"
        return ", ".join([f"on {what}", *_other_seeds(each)])
    what = count_words(each.contrast).replace(" ", " runs ", 1)
    return ", ".join([f"on {what} of {each.n_planned} planned each", *_other_runs(each)])


def _planned(each: Comparison) -> str:
    """What its verdict counts: no matrix asks for machines."""
    unit = each.contrast.unit
    return counted(each.n_planned, unit if unit == MACHINE else f"planned {unit}")


def _other_seeds(each: Comparison) -> Iterator[str]:
    for (new, base), n in sorted(each.ends.count.items()):
        if n and (new, base) != (End.FINISHED, End.FINISHED):
            yield f"{n} {_ended(new, base)}"
    if each.without_figure:
        yield f"{each.without_figure} disturbed"
    if each.repeated:
        yield f"{each.repeated} drawn like another"


def _other_runs(each: Comparison) -> Iterator[str]:
    for count, where in zip(each.ends.apart, ("this configuration", "the baseline"), strict=True):
        for end, n in sorted(count.items()):
            if n and end is not End.FINISHED:
                yield f"{n} {end} in {where}"
    if each.ends.left_out:
        yield f"{each.ends.left_out} run in neither"
    if each.without_figure:
        yield f"{each.without_figure} disturbed"


def _ended(new: End, base: End) -> str:
    if new is base is End.OTHERWISE:
        return str(new)
    if new is base:
        return "run in neither" if new is End.MISSING else f"{new} in both"
    parts = (f"{new} in this configuration", f"{base} in the baseline")
    return " and ".join(
        part for part, end in zip(parts, (new, base), strict=True) if end is not End.FINISHED
    )


def _in_all(found: Sequence[Comparison]) -> str:
    """Of many arms: "on 3 to 5 of 5 planned seeds each, 17 pairs incomplete, 9 runs failed"."""
    ns, planned = span(each.contrast.n for each in found), span(each.n_planned for each in found)
    failed = sum(each.ends.failed_new for each in found) + found[0].ends.failed_base
    rest = sum(each.n_planned - each.contrast.n for each in found)
    is_paired = found[0].contrast.is_paired
    units = plural(found[0].contrast.unit) if is_paired else "runs"
    told = f"on {ns} of {planned} planned {units} each"
    incomplete = f", {rest} {'pairs incomplete' if is_paired else 'missing'}"
    return f"{told}{incomplete}, {failed} runs failed" if rest or failed else told


def _furthest(found: Sequence[Comparison]) -> list[Comparison]:
    """The arms of the best verdict that there is, those that have it by most."""
    best = [each for each in found if each.verdict is found[0].verdict]
    return sorted(best, key=lambda each: -abs(each.contrast.mean or 0.0))[:FEW]


def _one(each: Comparison, family: Family) -> str:
    """For example "nanokimi + truemuon: -0.0410 (99.17 % interval -0.0470 to -0.0350), better"."""
    decimals = decimals_of(family)
    why = f" ({each.judgement.why})" if each.judgement.why else ""
    verdict = f"{each.told}{why}; up to {100 * each.most_bad_runs:.0f} % bad runs not ruled out"
    if each.contrast.mean is None:
        return f"{each.arm.label}: {verdict}"
    level = percent(family.confidence)
    interval = f" ({level} interval {write_interval(each.contrast, decimals)})"
    known = interval if each.contrast.interval is not None else ""
    return f"{each.arm.label}: {write_mean(each.contrast, decimals)}{known}, {verdict}"


def _model_or_optimizer(section: Section, family: Family, asked: Asked) -> list[str]:
    """What optimizer, model and both together add to the whole difference of the best ladder.

    Nothing where its seeds are too few for a verdict: what a seed or two show is in the table.
    """
    least = least_seeds(family.column, family.pooled)
    enough = [each for each in family.ladders if each.whole.n >= least]
    if not enough:
        return []
    ladder = best_first(enough, family)[0]
    decimals = decimals_of(family)

    def told(contrast: Contrast) -> str:
        return f"{write_mean(contrast, decimals)} ({write_interval(contrast, decimals)})"

    what = "change" if family.relative else "difference"
    bundle = bundle_words(ladder, section, asked)
    among = f" (the best of {len(family.ladders)} like it)" if len(family.ladders) > 1 else ""
    most = max(each.contrast.n for each in family.comparisons)
    is_fewer = family.setup.is_paired and ladder.whole.n < most
    fewer = f", over the {ladder.whole.n} seeds that all four have" if is_fewer else ""
    return [
        f"Model or optimizer? From {family.baseline.label} to {ladder.model} + "
        f"{ladder.optimizer}{among} the {what} is {write_mean(ladder.whole, decimals)}{fewer}. "
        f"The optimizer alone: {told(ladder.by_optimizer)}; the model alone"
        f"{f' ({bundle})' if bundle else ''}: {told(ladder.by_model)}; what only both together "
        f"do: {told(ladder.interaction)}."
    ]
