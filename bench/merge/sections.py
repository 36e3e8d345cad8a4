"""Cells that may stand in one table, arm by arm: each with its seeds, and how these ended."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from bench.merge.alike import Key, alike
from bench.merge.disturbed import Timing, timing_of
from bench.merge.merging import OPEN, EndedCell, Merged
from bench.records.columns import IMPORTED, LOSSES, TIMED, TIMINGS, TO_TARGET, memory_columns
from bench.records.endings import circumstances, end_by, end_of, ending
from bench.records.programs import Setup, setup_of
from bench.records.rows import Row
from bench.statistics.ends import End
from bench.statistics.interval import LEAST, LEAST_TIMES
from bench.statistics.spread import Spread, over_seeds

# Digits of an arm_id that tell two arms of the same names apart; all of them if these are alike.
ARM_DIGITS = 4


# How a study ended whose seeds ended otherwise each.
WORST_FIRST = (End.FAILED, End.DIVERGED, End.MISSING, End.FINISHED)

# Without host_id: a seed that failed has failed on whatever machine it was tried.
Tried = tuple[str, int, str, str, str]  # arm_id, seed, code_sha256, env_id, gpu_name


@dataclass(frozen=True)
class Arm:
    """A model with an optimizer and all settings: cells that differ in their seed alone."""

    arm_id: str
    model: str
    optimizer: str
    label: str  # "model + optimizer", with digits of the arm_id where that is ambiguous
    cells: tuple[EndedCell, ...]  # of this section: ok, or known not to be
    seeds: tuple[int, ...]  # that the section's folders selected for it
    cells_planned: int
    timing: Timing  # its section's
    # Seeds that failed at any attempt that was made at the same thing, with how.
    failed: Mapping[int, str] = field(default_factory=dict)
    # Seeds that came to an end under other code, another environment or on another machine.
    otherwise: frozenset[int] = frozenset()
    untuned: str = ""  # of a tuned arm: the optimizer as the matrix has it; else empty
    # Figures of curves that a claim asks for, by seed; None: not reached, or not known.
    claimed: Mapping[str, Mapping[int, float | None]] = field(default_factory=dict)
    # Of an arm that was tuned several times: the study that each seed is of.
    study_of: Mapping[int, int] = field(default_factory=dict)

    @property
    def names(self) -> set[tuple[str, str]]:
        """(model, optimizer) as any folder's matrix has them, untuned."""
        told = {(cell.model, self.untuned or cell.optimizer) for cell in self.cells}
        return told | {(self.model, self.untuned or self.optimizer)}

    @property
    def unit(self) -> str:
        """What varies from one to the next, and is what a verdict counts."""
        return "study" if self.study_of else "seed"

    @cached_property
    def seeds_of(self) -> Mapping[int, tuple[int, ...]]:
        """The planned seeds of each study; where all is tuned once, or nothing, of each seed."""
        found: dict[int, tuple[int, ...]] = {}
        for seed in self.seeds:
            unit = self.study_of.get(seed, seed)
            found[unit] = (*found.get(unit, ()), seed)
        return found

    @cached_property
    def ok(self) -> tuple[EndedCell, ...]:
        """Its finished cells, without those of seeds that failed as well."""
        return tuple(cell for cell in self.cells if cell.ok and cell.seed not in self.failed)

    @property
    def n_seeds(self) -> int:
        """The n of its statistics."""
        return len(self.by_seed)

    @property
    def n_seeds_timing(self) -> int:
        """The n of its timing statistics."""
        return len(self.timed_by_seed)

    @cached_property
    def by_seed(self) -> Mapping[int, EndedCell]:
        """The ok cell of each seed; of several the earliest.

        What finished and was run again in another folder was run again by choice: an average over
        such repeats would be over chosen ones.
        """
        return _by_seed(self.ok, self.same_draw)

    @cached_property
    def same_draw(self) -> Mapping[int, int]:
        """Seeds that began with the weights and saw the batches of an earlier one, and that one.

        They tell nothing more of what a seed varies, whatever its number is.
        """
        first: dict[tuple[str, str], int] = {}
        found = {}
        for cell in sorted(self.ok, key=lambda cell: cell.seed):
            draw = cell.text("init_hash"), cell.text("data_order_hash")
            if all(draw) and first.setdefault(draw, cell.seed) != cell.seed:
                found[cell.seed] = first[draw]
        return found

    @cached_property
    def timed_by_seed(self) -> Mapping[int, EndedCell]:
        """The same of those that timing statistics use."""
        return _by_seed((cell for cell in self.ok if self.timing.uses(cell)), self.same_draw)

    def spread(self, column: str) -> Spread:
        if column not in self._spreads:
            figures = self.claimed.get(column, {}) or self._figures(column)
            self._spreads[column] = over_seeds(
                self._by_unit(figures, column), fewest_seeds(column, self.timing)
            )
        return self._spreads[column]

    def _by_unit(
        self, figures: Mapping[int, float | None], column: str
    ) -> Mapping[int, Sequence[float | None]]:
        """A study has its mean over all of its seeds; of times, those that were not disturbed."""
        if not self.study_of:
            return {seed: [value] for seed, value in figures.items()}
        found = {}
        for study, seeds in self.seeds_of.items():
            known = [value for seed in seeds if (value := figures.get(seed)) is not None]
            if len(known) == len(seeds) or column in TIMED:
                found[study] = known
        return found

    def missed(self, metric: str, unit: int) -> bool:
        """Whether a seed finished short of the target that a figure is about."""
        figures = self.claimed.get(metric, {})
        seeds = self.seeds_of.get(unit, (unit,))
        return metric in TO_TARGET and any(
            seed in figures and figures[seed] is None for seed in seeds
        )

    def is_timed(self, unit: int) -> bool:
        """Whether timing statistics use it."""
        return any(seed in self.timed_by_seed for seed in self.seeds_of.get(unit, (unit,)))

    def _figures(self, column: str) -> Mapping[int, float | None]:
        """What its rows say, by seed."""
        if not self.timing.has(column):
            return {}
        by_seed = self.timed_by_seed if column in TIMINGS else self.by_seed
        return {seed: cell.number(column) for seed, cell in by_seed.items()}

    @cached_property
    def _spreads(self) -> dict[str, Spread]:
        """Those that were asked for: every table and picture asks again."""
        return {}

    def constant(self, column: str) -> float | None:
        """A property that all its rows share; what was done, only the ok ones have done whole."""
        cells = self.ok if column in ("steps", "tokens") else self.cells
        known = {value for cell in cells if (value := cell.number(column)) is not None}
        return known.pop() if len(known) == 1 else None

    def end(self, unit: int) -> End:
        """How it ended at a seed, whether or not that was planned for it; a study, at its worst."""
        ends = {self._end(seed) for seed in self.seeds_of.get(unit, (unit,))}
        return next(end for end in WORST_FIRST if end in ends)

    def _end(self, seed: int) -> End:
        if seed in self.failed:
            return end_by(self.failed[seed])
        return End.FINISHED if seed in self.by_seed or seed in self.same_draw else End.MISSING

    @cached_property
    def not_ok(self) -> Counter[str]:
        """How the planned seeds ended that are not finished."""
        last = {cell.seed: cell.status for cell in self.cells if not cell.ok}
        return Counter(
            self.failed.get(seed) or last.get(seed, OPEN)
            for seed in self.seeds
            if self._end(seed) is not End.FINISHED
        )

    @property
    def attempts(self) -> Counter[str]:
        """All rows of its cells, by status."""
        return Counter(row["status"] for cell in self.cells for row in cell.attempts)


def fewest_seeds(column: str, timing: Timing) -> int | None:
    """The fewest seeds that have an interval of a column; None: no number of them has.

    Of a time they are undisturbed ones.
    """
    if column not in TIMED:
        return LEAST
    return LEAST_TIMES if timing.clean else None


def _by_seed(cells: Iterable[EndedCell], same_draw: Mapping[int, int]) -> dict[int, EndedCell]:
    found: dict[int, EndedCell] = {}
    for cell in sorted(cells, key=lambda cell: (cell.seed, cell.text("started_at"))):
        found.setdefault(same_draw.get(cell.seed, cell.seed), cell)
    return found


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
        Section(
            key,
            _with_twins(_arms(key, cells, planned, labels, failed)),
            tuple(cells),
            timing_of(cell for cell in cells if cell.ok),
            _dropped_arms(key, cells, merged),
            tuple(trials.get(key, [])),
        )
        for key, cells in members.items()
    ]


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
    """Whether a cell came to an end, and not under a section's code, environment and machine."""
    here = (key.code_sha256, key.env_id, key.gpu_name, key.host_id)
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
