"""How the seeds of a comparison ended, in words."""

from collections.abc import Iterator, Sequence

from bench.report.family import Comparison
from bench.statistics.ends import End
from bench.statistics.text import counted
from bench.statistics.verdict import most_bad_runs


def rests_on(each: Comparison) -> str:
    """For example "on 5 of 20 planned seeds, 15 diverged in both arms"."""
    seeds = counted(each.n_planned, "planned seed")
    return ", ".join([f"on {each.contrast.n} of {seeds}", *_rest(each)])


def _rest(each: Comparison) -> Iterator[str]:
    """What became of the other seeds."""
    for (new, base), n in sorted(each.ends.count.items()):
        if n and (new, base) != (End.FINISHED, End.FINISHED):
            yield f"{n} {_ended(new, base)}"
    if each.without_figure:
        yield f"{each.without_figure} disturbed"
    if each.repeated:
        yield f"{each.repeated} drawn like another"


def _ended(new: End, base: End) -> str:
    if new is base is End.OTHERWISE:
        return str(new)
    if new is base:
        return "not run in either arm" if new is End.MISSING else f"{new} in both arms"
    if base is End.FINISHED:
        return f"{new} in this arm"
    if new is End.FINISHED:
        return f"{base} in the baseline"
    return f"{new} in this arm and {base} in the baseline"


def in_all(found: Sequence[Comparison]) -> str:
    """The same of many arms: "on 3 to 5 of 5 planned seeds each, 17 seeds of arms failed"."""
    ns, planned = (
        _span(figures)
        for figures in zip(*((each.contrast.n, each.n_planned) for each in found), strict=True)
    )
    failed = sum(each.ends.failed_new for each in found) + found[0].ends.failed_base
    rest = sum(each.n_planned - each.contrast.n for each in found)
    told = f"on {ns} of {planned} planned seeds each"
    return f"{told}, {rest} pairs incomplete, {failed} runs failed" if rest or failed else told


def _span(figures: Sequence[int]) -> str:
    low, high = min(figures), max(figures)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def most_bad(each: Comparison) -> str:
    """The rate of bad runs that an arm's finished seeds still allow: "45 %"."""
    finished = sum(n for (new, _), n in each.ends.count.items() if new is End.FINISHED)
    return f"{100 * most_bad_runs(finished, each.ends.failed_new):.0f} %"


def bad_runs(each: Comparison) -> str:
    return f"bad runs up to {most_bad(each)}"
