"""What disturbed cells, and which of them timing statistics use in spite of it.

Something from outside, or other cells of their run: on CPUs of their own, but not alone.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.merge.merging import EndedCell
from bench.records.columns import OF_A_MACHINE, TIMED
from bench.statistics.text import seed_words

# Columns of runs.csv: items joined by "; ", such as "cpu_steal 3.1%; swap 42%".
REASONS = "taint_reasons"
UNCHECKED = "taint_unchecked"  # checks that could not be made
NEIGHBOURS = "neighbours"

# Of a program these come from where `step_time_source` says, and mean another thing by each.
SOURCE = "step_time_source"
BY_SOURCE = (
    *("train_time_s", "eval_time_s", "tokens_per_s", "step_time_drift_pct"),
    *("step_time_ms_p50", "step_time_ms_p90", "step_time_ms_p99"),
)

MARK = "†"  # after a timing that something from outside disturbed

# "; " between two items, but not the one within a detail's brackets.
BETWEEN = re.compile(r"; (?![^(]*\))")
# A name, a share of the training phase, a detail: the last two may be missing.
ITEM = re.compile(r"([a-z][a-z0-9_]*)( [\d.]+ ?%)?( \(.*\))?")


def is_disturbed(cell: EndedCell) -> bool:
    """Whether it is known to be disturbed; where that is not known, nothing is held against it."""
    return cell.text("tainted") == "true"


def names(items: str) -> list[str]:
    """What `taint_reasons` or `taint_unchecked` names; an item of another form is its own name."""
    found = (ITEM.fullmatch(item) or item for item in BETWEEN.split(items) if item)
    return [item if isinstance(item, str) else item[1] for item in found]


@dataclass(frozen=True)
class Timing:
    """Which ok cells of a section count for its timing statistics.

    A seed counts if each arm that ended ok with it has an undisturbed cell there: an arm that was
    disturbed is compared with nothing, so that its seed is left out for all of them.
    """

    disturbed: Mapping[int, tuple[str, ...]]  # the other seeds -> names of what disturbed them
    clean: bool  # False: no seed counts, and the statistics show all cells, disturbed or not
    sources: frozenset[str] = frozenset()  # of a program's times; with two, unlike ones
    hosts: tuple[str, ...] = ()  # the machines of the ok cells, in the order of their seeds

    def has(self, column: str) -> bool:
        """Whether a column has one meaning in all cells: else it has no mean, nor a comparison.

        What is of a machine has none over several: each is told by itself.
        """
        if len(self.hosts) > 1 and column in OF_A_MACHINE:
            return False
        return len(self.sources) < 2 or column not in BY_SOURCE

    def uses(self, cell: EndedCell) -> bool:
        return not self.clean or not (cell.seed in self.disturbed or is_disturbed(cell))

    def mark(self, column: str) -> str:
        """What follows a statistic of this column: nothing, unless it is a disturbed timing."""
        return MARK if column in TIMED and not self.clean else ""


def timing_of(ok: Iterable[EndedCell]) -> Timing:
    """The timing of a section with these ok cells."""
    cells = sorted(ok, key=lambda cell: cell.seed)
    undisturbed = {(cell.seed, cell.arm_id) for cell in cells if not is_disturbed(cell)}
    left_out = {cell.seed for cell in cells if (cell.seed, cell.arm_id) not in undisturbed}
    reasons: dict[int, set[str]] = {cell.seed: set() for cell in cells if cell.seed in left_out}
    for cell in cells:
        if cell.seed in left_out and is_disturbed(cell):
            reasons[cell.seed].update(names(cell.text(REASONS)))
    disturbed = {seed: tuple(sorted(found)) for seed, found in reasons.items()}
    clean = not left_out or left_out != {cell.seed for cell in cells}
    sources = frozenset(cell.text(SOURCE) for cell in cells) - {""}
    hosts = tuple(dict.fromkeys(cell.text("host_id") for cell in cells))
    return Timing(disturbed, clean, sources, hosts)


def short_note(timing: Timing) -> str:
    """What a reader of timings must know, as a sentence; empty if all seeds count.

    Of several machines each tells it of its own times.
    """
    if len(timing.hosts) > 1:
        return ""
    if not timing.clean:
        return f"{MARK}: each seed was disturbed in some configuration: disturbed times are shown."
    if not timing.disturbed:
        return ""
    return f"Times are without {seed_words(timing.disturbed)}: disturbed."


def full_note(timing: Timing) -> str:
    """The same with what disturbed them, for the table that shows most timings."""
    if len(timing.hosts) > 1:
        return "What is of a machine is told machine by machine, further down."
    why = "; ".join(_with_reasons(timing))
    if not timing.clean:
        return (
            f"{MARK}: something from outside disturbed every seed in some configuration: {why}. "
            "These timings are shown all the same; they do not tell which configuration is faster."
        )
    if not timing.disturbed:
        return ""
    return (
        "Times, rates, energy, power, clock and utilisation leave out, for every configuration, "
        f"what was disturbed from outside: {why}."
    )


def _with_reasons(timing: Timing) -> list[str]:
    """For example "seeds 2, 5 (cpu_steal)", for each set of reasons."""
    alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for seed, reasons in timing.disturbed.items():
        alike[reasons].append(seed)
    return [
        f"{seed_words(seeds)} ({', '.join(reasons) or 'no reason given'})"
        for reasons, seeds in alike.items()
    ]


def beside_notes(cells: Iterable[EndedCell]) -> Iterator[str]:
    """What a reader of timings must know of them; nothing where every cell was alone."""
    told = [cell for cell in cells if cell.ok and cell.text(NEIGHBOURS)]
    beside = [cell for cell in told if _was_beside(cell)]
    if not beside:
        return
    of = f"{len(beside)} of {len(told)} ok runs" if len(beside) < len(told) else "All ok runs"
    yield (
        f"{of} were made beside others, on CPUs of their own: caches, memory and clock were "
        "shared, and times include what that costs."
    )
    if mixed := _mixed(told):
        yield f"Times of {', '.join(mixed)} mix such runs with runs that were alone."


def _was_beside(cell: EndedCell) -> bool:
    return bool(cell.number(NEIGHBOURS))


def _mixed(told: Sequence[EndedCell]) -> list[str]:
    """Arms with both kinds of cells on one machine."""
    kinds: dict[tuple[str, str], set[bool]] = defaultdict(set)
    labels: dict[tuple[str, str], str] = {}
    for cell in told:
        arm = cell.arm_id, cell.text("host_id")
        kinds[arm].add(_was_beside(cell))
        labels[arm] = f"{cell.model} + {cell.optimizer}, {cell.device}"
    return list(dict.fromkeys(labels[arm] for arm, found in kinds.items() if len(found) > 1))
