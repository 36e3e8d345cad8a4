"""What is of a machine, such as a time, where a section has several: pairs on each of them.

Machines differ by more than seeds do, so that each is one value: the mean over its pairs. Cells of
unlike machines are never a pair, and none of their times stand in one mean.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping

from bench.merge.arms import Arm, fewest_seeds
from bench.merge.asked import Asked
from bench.merge.sections import Section
from bench.records.columns import OF_A_MACHINE, TIMED, is_relative
from bench.report.pairs import Paired, ends_of_pairs, measured
from bench.statistics.contrast import Contrast, difference
from bench.statistics.ends import End, Ends

# From so many on there is an interval over machines, as there is one of times over seeds.
LEAST_MACHINES = 3
MACHINE = "machine"  # what such a contrast counts

WORST_FIRST = (*(End.FAILED, End.DIVERGED, End.MISSED, End.MISSING, End.OTHERWISE), End.FINISHED)


def is_of_machines(section: Section, metric: str) -> bool:
    """Whether a figure has no mean over a section, for it is of several machines."""
    return bool(section.machines) and metric in OF_A_MACHINE


def apart(section: Section, asked: Asked) -> list[Section]:
    """Machine by machine, where what is claimed is of a machine and they are too few to be values.

    A claim of a number is about one machine, however many there are.
    """
    metric = asked.fixed.metric if asked.fixed else asked.claim.metric if asked.claim else ""
    few = len(section.machines) < LEAST_MACHINES or bool(asked.fixed)
    return [*section.machines.values()] if is_of_machines(section, metric) and few else [section]


def on_each(
    section: Section, arm: Arm, baseline: Arm, metric: str, confidence: float
) -> dict[str, Contrast]:
    """host_id -> arm - baseline over the seeds of which both were made there.

    None of a machine on which each seed was disturbed in some arm.
    """
    relative = is_relative(metric, section.setup.columns[metric])
    found = {}
    for host, here in section.machines.items():
        if metric in TIMED and not here.timing.clean:
            continue
        sides = [_there(here, each) for each in (arm, baseline)]
        new, base = (measured(each.spread(metric).by_seed, relative) for each in sides)
        found[host] = difference(
            new,
            base,
            relative=relative,
            confidence=confidence,
            least=fewest_seeds(metric, here.timing),
            pairs=section.setup.is_paired,
        )
    return found


def over_machines(
    section: Section, arm: Arm, baseline: Arm, metric: str, confidence: float
) -> Paired:
    """A value a machine: its mean of `on_each`, where all seeds finished in both arms.

    A machine ended as its worst pair did.
    """
    of_seeds = ends_of_pairs(arm, baseline, *_known(section, arm, baseline, metric), metric)
    by_machine = _by_machine(arm, baseline, of_seeds)
    ends = {host: _worst(pairs) for host, pairs in by_machine.items()}
    finished = [host for host, pair in ends.items() if pair == (End.FINISHED, End.FINISHED)]
    each = on_each(section, arm, baseline, metric, confidence)
    known = {host: each[host] for host in finished if host in each and each[host].n}
    means = (contrast.mean for contrast in known.values())
    return Paired(
        Contrast(
            {place: mean for place, mean in enumerate(means, start=1) if mean is not None},
            is_relative(metric, section.setup.columns[metric]),
            confidence,
            scale=max((contrast.scale for contrast in known.values()), default=0.0),
            least=LEAST_MACHINES,
            unit=MACHINE,
        ),
        Ends(Counter(ends.values())),
        Ends(Counter(of_seeds.values())),
        correlation=None,
        without_figure=len(finished) - len(known),
        repeated=0,
    )


def _known(
    section: Section, arm: Arm, baseline: Arm, metric: str
) -> tuple[dict[int, float], dict[int, float]]:
    """The figures of either arm by seed, whichever machine they are of."""
    found: tuple[dict[int, float], dict[int, float]] = {}, {}
    for here in section.machines.values():
        for figures, each in zip(found, (arm, baseline), strict=True):
            figures.update(_there(here, each).spread(metric).by_seed)
    return found


def _there(section: Section, arm: Arm) -> Arm:
    """The same arm in the part of its section that is of one machine."""
    return next(each for each in section.arms if each.label == arm.label)


def _by_machine(
    arm: Arm, baseline: Arm, ends: Mapping[int, tuple[End, End]]
) -> dict[str, list[tuple[End, End]]]:
    """host_id -> how the pairs ended that are of it; a pair that is torn is of none."""
    places = [_places(each) for each in (arm, baseline)]
    found: dict[str, list[tuple[End, End]]] = defaultdict(list)
    for seed, pair in ends.items():
        hosts = [place.get(seed, set()) for place in places]
        both = hosts[0] & hosts[1]
        if pair == (End.MISSING, End.MISSING):
            continue
        of = both if pair == (End.FINISHED, End.FINISHED) else hosts[0] | hosts[1]
        for host in sorted(of):
            found[host].append(pair)
    return found


def _places(arm: Arm) -> dict[int, set[str]]:
    """Seed, or study -> the machines on which its cells ended."""
    found: dict[int, set[str]] = defaultdict(set)
    for cell in arm.cells:
        if host := cell.text("host_id"):
            found[arm.study_of.get(cell.seed, cell.seed)].add(host)
    return found


def _worst(pairs: list[tuple[End, End]]) -> tuple[End, End]:
    new, base = ({pair[side] for pair in pairs} for side in (0, 1))
    return _first(new), _first(base)


def _first(ends: set[End]) -> End:
    return next(end for end in WORST_FIRST if end in ends)
