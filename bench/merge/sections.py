"""Cells that may stand in one table, arm by arm: each with its seeds, and how these ended."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from bench.merge.alike import Key, alike
from bench.merge.arms import Arm
from bench.merge.disturbed import Timing, timing_of
from bench.merge.merging import EndedCell, Merged
from bench.records.columns import IMPORTED, LOSSES, memory_columns
from bench.records.endings import circumstances, end_of, ending
from bench.records.programs import Setup, setup_of
from bench.records.rows import Row
from bench.statistics.ends import End

# Digits of an arm_id that tell two arms of the same names apart; all of them if these are alike.
ARM_DIGITS = 4


# Without the machine: a seed that failed has failed on whichever it was tried.
Tried = tuple[str, int, str, str, str]  # arm_id, seed, code_sha256, env_id, gpu_name


@dataclass(frozen=True)
class FromCurves:
    """At what a figure of curves is taken, in words, and why it decides nothing, if so."""

    words: str
    why_not: str = ""


@dataclass(frozen=True)
class Section:
    """Cells that may be compared, arm by arm."""

    key: Key
    arms: tuple[Arm, ...]  # in the order of the plans
    cells: tuple[EndedCell, ...]  # of all arms, in the order of the plans
    timing: Timing
    dropped_arms: int = 0  # that ran with its settings, and are in no plan any more
    trials: tuple[EndedCell, ...] = ()  # of tuning: in no arm and no figure of one
    claimed: Mapping[str, FromCurves] = field(default_factory=dict)  # its arms' figures of curves
    # Machine by machine, by host_id: what of it stands there; none where all is of one machine.
    machines: Mapping[str, "Section"] = field(default_factory=dict)

    @cached_property
    def setup(self) -> Setup:
        """What its rows share: its figures, and whether seeds are pairs."""
        return setup_of(self.key.settings)

    @property
    def memory(self) -> tuple[str, ...]:
        """The memory that counts here: pictures show the first of these columns.

        What torch has allocated in a program, nobody outside of it knows.
        """
        columns = memory_columns(self.key.device)
        return columns[-1:] if self.setup.program else columns

    @cached_property
    def main_metric(self) -> str:
        """What stands for how good an arm is: the final validation loss, or what there is of it.

        A program may print another loss alone, or declare its own figure.
        """
        known = (LOSSES[0], *self.setup.declared, *LOSSES)
        return next(filter(self.values, known), LOSSES[0]) if self.setup.program else LOSSES[0]

    @cached_property
    def ok(self) -> list[EndedCell]:
        return [cell for cell in self.cells if cell.ok]

    @property
    def is_imported(self) -> bool:
        """Whether its runs were made elsewhere: a section has such alone, or none."""
        return IMPORTED in self.values("runtime")

    @property
    def is_tuned(self) -> bool:
        """Whether settings were tuned for it; its tuned arms may still be missing."""
        return bool(self.trials) or any(arm.untuned for arm in self.arms)

    def values(self, column: str) -> list[str]:
        """The distinct known fields of a column over the ok rows."""
        if column not in self._values:
            fields = (cell.text(column) for cell in self.ok)
            self._values[column] = list(dict.fromkeys(text for text in fields if text))
        return self._values[column]

    @cached_property
    def _values(self) -> dict[str, list[str]]:
        """Those that were asked for: summary.csv asks for every arm."""
        return {}


def make_sections(merged: Merged) -> list[Section]:
    """A section for every key that an ok row has, in the order of the plans.

    Without a single ok row there is nothing to compare, and no section.
    """
    shown = [cell for cell in merged.cells if cell.part != "trial"]
    members = alike(shown)
    trials = alike([cell for cell in merged.cells if cell.part == "trial"])
    labels = _labels(list(members.values()))
    planned: dict[str, list[EndedCell]] = defaultdict(list)  # arm_id -> cells of all sections
    for cell in shown:
        planned[cell.arm_id].append(cell)
    failed = failures(shown)
    return [
        _with_machines(
            Section(
                key,
                _with_twins(_arms(key, cells, planned, labels, failed)),
                tuple(cells),
                timing_of(cell for cell in cells if cell.ok),
                _dropped_arms(key, cells, merged),
                tuple(trials.get(key, [])),
            )
        )
        for key, cells in members.items()
    ]


def _with_machines(section: Section) -> Section:
    hosts = section.timing.hosts
    if len(hosts) < 2:
        return section
    return replace(section, machines={host: _on_machine(section, host) for host in hosts})


def _on_machine(section: Section, host: str) -> Section:
    """What of a section stands on one machine: of each arm the seeds that came to an end there."""
    cells = tuple(cell for cell in section.cells if cell.text("host_id") == host)
    timing = timing_of(cell for cell in cells if cell.ok)
    seeds = {cell.seed for cell in cells}
    arms = (
        replace(
            arm,
            cells=tuple(cell for cell in arm.cells if cell.text("host_id") == host),
            seeds=tuple(seed for seed in arm.seeds if seed in seeds),
            cells_planned=sum(seed in seeds for seed in arm.seeds),
            timing=timing,
            failed={seed: how for seed, how in arm.failed.items() if seed in seeds},
            otherwise=frozenset(),  # it was asked for once, on whichever machine is free
        )
        for arm in section.arms
    )
    return replace(section, arms=tuple(arms), cells=cells, timing=timing)


def _dropped_arms(key: Key, members: Iterable[EndedCell], merged: Merged) -> int:
    planned = {cell.arm_id for cell in merged.cells}
    folders = {cell.source for cell in members}
    dropped = set().union(*(merged.sources[folder].dropped_arms for folder in folders))
    here = (key.device, key.settings)
    return len({arm for arm, *where in dropped if tuple(where) == here} - planned)


def tried(cell: EndedCell) -> Tried:
    """What a cell with a row was an attempt at."""
    code, environment, gpu = map(cell.text, ("code_sha256", "env_id", "gpu_name"))
    return cell.arm_id, cell.seed, code, environment, gpu


def failures(cells: Iterable[EndedCell]) -> dict[Tried, str]:
    """What failed at any attempt, from whatever folder and machine, and how."""
    at: dict[Tried, list[Row]] = defaultdict(list)
    for cell in cells:
        if cell.row is not None:
            at[tried(cell)] += cell.attempts
    found = {}
    for key, attempts in at.items():
        row = ending(attempts)
        if row is not None and end_of(row) in (End.DIVERGED, End.FAILED):
            found[key] = row["status"]
    return found


def _arms(
    key: Key,
    members: Sequence[EndedCell],
    planned: Mapping[str, Sequence[EndedCell]],
    labels: Mapping[str, str],
    failed: Mapping[Tried, str],
) -> tuple[Arm, ...]:
    timing = timing_of(cell for cell in members if cell.ok)
    folders = {cell.source for cell in members}
    by_arm: dict[str, list[EndedCell]] = {}
    for cell in members:
        by_arm.setdefault(cell.arm_id, []).append(cell)
    arms = []
    for arm_id, mine in by_arm.items():
        # Also those of its cells that ended elsewhere: this section lacks them.
        asked = {(cell.source, cell.seed) for cell in planned[arm_id] if cell.planned_in & folders}
        seeds = sorted({seed for _, seed in asked})
        tries = {seed: (arm_id, seed, key.code_sha256, key.env_id, key.gpu_name) for seed in seeds}
        arms.append(
            Arm(
                arm_id=arm_id,
                model=mine[0].model,
                optimizer=mine[0].optimizer,
                label=labels[arm_id],
                cells=tuple(mine),
                seeds=tuple(seeds),
                cells_planned=len(asked),
                timing=timing,
                failed={seed: failed[each] for seed, each in tries.items() if each in failed},
                otherwise=frozenset(
                    cell.seed for cell in planned[arm_id] if _ended_otherwise(cell, key)
                ),
                untuned=mine[0].tuned_optimizer,
                study_of=_studies(cell for cell in planned[arm_id] if cell.part == "tuned"),
            )
        )
    return tuple(arms)


def _ended_otherwise(cell: EndedCell, key: Key) -> bool:
    """Whether a cell ended, and not under a section's code, environment and kind of machine."""
    here = (key.code_sha256, key.env_id, key.gpu_name, key.machine)
    return end_of(cell.row) is not End.MISSING and circumstances(cell.row or {}) != here


def _with_twins(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms; one that tuning has not bettered a second time, under its tuned name.

    So is every study of an arm that has not: these join those that have.
    """
    found = list(arms)
    for arm in arms:
        cells = tuple(cell for cell in arm.cells if cell.twin)
        if not cells:
            continue
        name, seeds = cells[0].twin, {cell.seed for cell in cells}
        twin = replace(
            arm,
            optimizer=name,
            untuned=arm.optimizer,
            label=f"{arm.model} + {name}",
            cells=cells,
            seeds=tuple(sorted(seeds)),
            study_of=_studies(cells),
        )
        names = arm.model, name
        others = [each for each in found if each.study_of and (each.model, each.optimizer) == names]
        found = [each for each in found if each not in others]
        found.append(_together(twin, others[0], seeds) if others else twin)
    return tuple(found)


def _together(twin: Arm, other: Arm, seeds: set[int]) -> Arm:
    """An arm with the studies in which tuning has not bettered it, which have these seeds."""
    return replace(
        other,
        cells=(*other.cells, *twin.cells),
        seeds=tuple(sorted({*other.seeds, *seeds})),
        cells_planned=other.cells_planned + len(twin.cells),
        failed={
            **{seed: how for seed, how in twin.failed.items() if seed in seeds},
            **other.failed,
        },
        otherwise=(twin.otherwise & seeds) | other.otherwise,
        study_of={**other.study_of, **twin.study_of},
    )


def _studies(cells: Iterable[EndedCell]) -> dict[int, int]:
    return {cell.seed: int(cell.study) for cell in cells if cell.study}


def _labels(sections: Sequence[Sequence[EndedCell]]) -> dict[str, str]:
    """arm_id -> its name in all sections alike.

    A label is ambiguous if two arms of one section would share it; the same arm on another device
    is in another section, has another arm_id, and may share it.
    """
    plain = {
        cell.arm_id: f"{cell.model} + {cell.optimizer}" for cells in sections for cell in cells
    }
    ambiguous = set()
    for cells in sections:
        total = Counter(plain[arm_id] for arm_id in {cell.arm_id for cell in cells})
        ambiguous |= {label for label, arms in total.items() if arms > 1}
    digits = Counter((label, arm_id[:ARM_DIGITS]) for arm_id, label in plain.items())
    labels = dict(plain)
    for arm_id, label in plain.items():
        if label in ambiguous:
            few = arm_id[:ARM_DIGITS]
            labels[arm_id] = f"{label} ({few if digits[label, few] == 1 else arm_id})"
    return labels
