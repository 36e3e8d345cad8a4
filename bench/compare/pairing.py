"""Two versions joined by arm and seed: which figures may be compared, and what is left out."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bench.compare.versions import Version
from bench.merge.disturbed import REASONS, names
from bench.records.columns import LOSSES, TIMINGS
from bench.records.endings import end_by, end_of
from bench.records.rows import Row, as_number
from bench.statistics.contrast import BySeed
from bench.statistics.ends import End, Ends
from bench.statistics.spread import over_seeds

BySeedRows = Mapping[int, tuple[Row, ...]]  # how a seed ended on each machine and kind of GPU


@dataclass(frozen=True)
class Pairs:
    """One metric of one arm on both sides, at the seeds that both have it for."""

    base: BySeed
    new: BySeed
    disturbed: bool = False  # some of them were, by something from outside
    decides: bool = True  # False: none was undisturbed, so that they are shown and tell nothing


@dataclass(frozen=True)
class PairedArm:
    """An arm that both versions have."""

    arm_id: str
    label: str
    device: str
    base: BySeedRows
    new: BySeedRows

    @cached_property
    def seeds(self) -> tuple[int, ...]:
        """Those that ended on both sides, however."""
        return tuple(sorted(_settled(self.base) & _settled(self.new)))

    @property
    def only_base(self) -> tuple[int, ...]:
        return tuple(sorted(_settled(self.base) - set(self.seeds)))

    @property
    def only_new(self) -> tuple[int, ...]:
        return tuple(sorted(_settled(self.new) - set(self.seeds)))

    def pairs(self, metric: str, keep_disturbed: bool) -> Pairs:
        """Losses from anywhere; all else on one machine and kind of GPU, undisturbed if a time.

        Disturbed times are kept where asked, or where there are no others.
        """
        if metric in LOSSES:
            return self._pairs(metric, same_machine=False, clean=False)
        found = self._pairs(metric, same_machine=True, clean=False)
        if metric not in TIMINGS or not self.disturbed.keys() & found.base.keys():
            return found
        undisturbed = self._pairs(metric, same_machine=True, clean=True)
        if undisturbed.base and not keep_disturbed:
            return undisturbed
        return replace(found, disturbed=True, decides=keep_disturbed)

    def _pairs(self, metric: str, *, same_machine: bool, clean: bool) -> Pairs:
        base: dict[int, list[float]] = {}
        new: dict[int, list[float]] = {}
        failed = set().union(*self.failed)
        for seed in self.seeds:
            if seed in failed:
                continue
            left = _figures(self.base[seed], metric, clean)
            right = _figures(self.new[seed], metric, clean)
            if same_machine:
                shared = left.keys() & right.keys()
                left = {machine: left[machine] for machine in shared}
                right = {machine: right[machine] for machine in shared}
            if left and right:
                base[seed], new[seed] = list(left.values()), list(right.values())
        return Pairs(over_seeds(base).by_seed, over_seeds(new).by_seed)

    @property
    def failed(self) -> tuple[Mapping[int, str], Mapping[int, str]]:
        """(BASE, NEW): seeds that failed, of those that ended on both sides: with which status."""
        return _failed(self.base, self.seeds), _failed(self.new, self.seeds)

    @property
    def newly_failed(self) -> Mapping[int, str]:
        """Seeds that failed in NEW alone: its status. One that failed in BASE makes up for none."""
        base, new = self.failed
        return {seed: status for seed, status in new.items() if seed not in base}

    @property
    def ends(self) -> Ends:
        """How the seeds did that ended on either side."""
        base, new = self.failed
        both = Counter((end_by(new.get(seed)), end_by(base.get(seed))) for seed in self.seeds)
        both[End.MISSING, End.FINISHED] += len(self.only_base)
        both[End.FINISHED, End.MISSING] += len(self.only_new)
        return Ends(both)

    @property
    def elsewhere(self) -> tuple[int, ...]:
        """Seeds that are ok on both sides, but on no machine that both have in common."""
        return tuple(
            seed
            for seed in self.seeds
            if (left := _machines(self.base[seed]))
            and (right := _machines(self.new[seed]))
            and not left & right
        )

    @cached_property
    def disturbed(self) -> Mapping[int, tuple[str, ...]]:
        """Seeds with a disturbed cell on either side -> names of what disturbed it."""
        found = {}
        for seed in self.seeds:
            rows = [row for row in (*self.base[seed], *self.new[seed]) if _is_disturbed(row)]
            if rows:
                reasons = {name for row in rows for name in names(row.get(REASONS, ""))}
                found[seed] = tuple(sorted(reasons))
        return found


@dataclass(frozen=True)
class Joined:
    base: Version
    new: Version
    arms: tuple[PairedArm, ...]  # in the order of BASE
    only_base: tuple[str, ...]  # labels of arms
    only_new: tuple[str, ...]


def join(base: Version, new: Version) -> Joined:
    """Arms by arm_id, which is all that was asked but the seed; names alone join nothing."""
    left, right = _by_arm(base), _by_arm(new)
    labels = _labels([*left.values(), *right.values()])
    return Joined(
        base,
        new,
        tuple(
            PairedArm(arm_id, labels[arm_id], _first(seeds)["device"], seeds, right[arm_id])
            for arm_id, seeds in left.items()
            if arm_id in right
        ),
        only_base=tuple(labels[arm_id] for arm_id in left if arm_id not in right),
        only_new=tuple(labels[arm_id] for arm_id in right if arm_id not in left),
    )


def _by_arm(version: Version) -> dict[str, dict[int, tuple[Row, ...]]]:
    arms: dict[str, dict[int, tuple[Row, ...]]] = defaultdict(dict)
    for (arm_id, seed), rows in version.cells.items():
        arms[arm_id][seed] = rows
    return dict(arms)


def _labels(arms: Sequence[BySeedRows]) -> dict[str, str]:
    """arm_id -> "model + optimizer, device", with the arm_id where two arms are named alike."""
    plain = {}
    for rows in map(_first, arms):
        plain[rows["arm_id"]] = f"{rows['model']} + {rows['optimizer']}, {rows['device']}"
    count = Counter(plain.values())
    return {
        arm_id: label if count[label] == 1 else f"{label} ({arm_id})"
        for arm_id, label in plain.items()
    }


def _first(arm: BySeedRows) -> Row:
    return next(iter(arm.values()))[0]


def _settled(seeds: BySeedRows) -> set[int]:
    """Seeds that came to an end of their own on some machine."""
    return {seed for seed, rows in seeds.items() if {*map(end_of, rows)} != {End.MISSING}}


def _failed(by_seed: BySeedRows, seeds: Iterable[int]) -> dict[int, str]:
    """Seed -> the status with which it failed, on whatever machine that was."""
    return {
        seed: row["status"]
        for seed in seeds
        for row in by_seed[seed]
        if end_of(row) in (End.DIVERGED, End.FAILED)
    }


def _is_disturbed(row: Row) -> bool:
    return row.get("tainted") == "true"


def _machines(rows: Iterable[Row]) -> set[tuple[str, str]]:
    return {_machine(row) for row in rows if row["status"] == "ok"}


def _machine(row: Row) -> tuple[str, str]:
    """One machine may hold GPUs of several kinds."""
    return row["host_id"], row.get("gpu_name", "")


def _figures(rows: Iterable[Row], metric: str, clean: bool) -> dict[tuple[str, str], float]:
    """The known figures of ok rows by machine; where `clean`, of undisturbed ones alone."""
    usable = (row for row in rows if row["status"] == "ok" and not (clean and _is_disturbed(row)))
    known = ((_machine(row), as_number(row.get(metric, ""))) for row in usable)
    return {machine: value for machine, value in known if value is not None}
