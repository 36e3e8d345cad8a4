"""One arm of a section: cells that differ in their seed alone, and how its seeds ended."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from bench.merge.disturbed import Timing
from bench.merge.merging import OPEN, EndedCell
from bench.records.columns import TIMED, TIMINGS, TO_TARGET
from bench.records.endings import end_by
from bench.statistics.ends import End
from bench.statistics.interval import LEAST, LEAST_TIMES
from bench.statistics.spread import Spread, over_seeds

# How a study ended whose seeds ended otherwise each.
WORST_FIRST = (End.FAILED, End.DIVERGED, End.MISSING, End.FINISHED)


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
