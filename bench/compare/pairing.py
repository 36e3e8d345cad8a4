"""Two versions read and joined by arm and seed: what may be compared, and what is left out."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from bench.errors import FolderError, RecordError, program
from bench.merge.disturbed import BY_SOURCE, REASONS, SOURCE, names
from bench.merge.reading import check_fields, check_status
from bench.records.columns import TIMINGS
from bench.records.endings import by_circumstances, end_by, end_of, ending
from bench.records.kinds import LOSS
from bench.records.programs import Setup, figure_of, joined_setup, setup_of
from bench.records.rows import RUNS_NEED, Row, read_runs
from bench.report.titles import short
from bench.statistics.contrast import BySeed
from bench.statistics.ends import End, Ends
from bench.statistics.spread import over_seeds

NEEDED = (*RUNS_NEED, "arm_id", "model", "optimizer", "device", "seed")
# What may differ between two versions, and is named: it is what is compared.
MAY_DIFFER = ("code_sha256", "git_commit", "git_dirty", "env_id", "image_id", "torch_version")
# What else a reader wants to know of each.
ABOUT = ("runtime", "host_id", "host_cpu_model", "gpu_name", "driver_version", "corpus")
# Of long identities the first digits are shown.
HASHES = ("code_sha256", "git_commit", "env_id", "image_id")

BySeedRows = Mapping[int, Sequence[Row]]  # how a seed ended on each machine and kind of GPU


@dataclass(frozen=True)
class Version:
    """The rows of one results folder, or of one runs.csv."""

    name: str  # for readers; never a whole path, which would name the machine's folders
    arms: Mapping[str, BySeedRows]  # by arm_id

    def told(self, column: str) -> tuple[str, ...]:
        """The distinct known fields of a column, in the order of arms and their rows."""
        return tuple(dict.fromkeys(text for row in self._rows() if (text := row.get(column, ""))))

    def ended(self, column: str) -> tuple[str, ...]:
        """The same of those rows alone that came to an end of their own."""
        rows = (row for row in self._rows() if end_of(row) is not End.MISSING)
        return tuple(dict.fromkeys(text for row in rows if (text := row.get(column, ""))))

    def _rows(self) -> Iterator[Row]:
        return (row for arm in self.arms.values() for rows in arm.values() for row in rows)


def brief(column: str, text: str) -> str:
    """A field as it is shown."""
    return short(text) if column in HASHES else text


def setup_at(path: Path) -> Setup:
    """What rows of a results folder, or of a runs.csv, may have; ours where there are none."""
    file = path / "runs.csv" if path.is_dir() else path
    return joined_setup({row.get("settings", "") for row in _checked(file, read_runs(file))})


def read_version(path: Path, name: str | None = None) -> Version:
    """The rows of a results folder, or of a runs.csv by itself.

    A cell has one row for each machine and kind of GPU that it ran on: of its attempts there, the
    one that tells how it ended. Several are repeats of its seed.

    Raises:
        FolderError: if there is no such file.
        RecordError: if it is damaged.
    """
    file = path / "runs.csv" if path.is_dir() else path
    if not file.is_file():
        raise FolderError(
            f"{file} is not there. Give a folder that `{program()} run MATRIX` has written, or "
            "its runs.csv."
        )
    attempts: dict[tuple[str, str, str], list[Row]] = defaultdict(list)
    table = read_runs(file, NEEDED)
    if not table:
        raise RecordError(f"{file} has no rows. Give one that `{program()} run` has filled.")
    for row in _checked(file, table):
        if row.get("part") != "trial":  # a search for settings, of no arm that is compared
            attempts[row["run_id"], row["host_id"], row.get("gpu_name", "")].append(row)
    arms: dict[str, dict[int, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for rows in attempts.values():
        *_, latest = by_circumstances(sorted(rows, key=lambda row: int(row["attempt"])))
        last = ending(latest)
        assert last is not None
        arms[last["arm_id"]][int(last["seed"])].append(last)
    folder = file.resolve().parent if file.name == "runs.csv" else file.resolve()
    return Version(name or folder.name, arms)


def _checked(file: Path, rows: Iterable[Row]) -> Iterator[Row]:
    for row in rows:
        try:
            check_fields(row, "seed")
            check_status(row)
        except ValueError as error:
            raise RecordError(
                f"{file}: run {row['run_id']}, attempt {row['attempt']}: {error}. "
                "Put the field right, or remove the line."
            ) from error
        yield row


@dataclass(frozen=True)
class Pairs:
    """One metric of one arm on both sides, at the seeds that both have it for.

    Where seeds make no pairs, at those that either has it for.
    """

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
    across: str = ""  # the column between whose values it is compared, unpaired; empty: in pairs

    @cached_property
    def setup(self) -> Setup:
        """That of its rows, which are all asked for the same."""
        return setup_of(_first(self.base).get("settings", ""))

    @property
    def is_paired(self) -> bool:
        """Whether runs of one seed are compared with each other."""
        return self.setup.is_paired and not self.across

    @property
    def changed(self) -> bool:
        """Whether its program, or what it was asked, is another in NEW."""
        return _first(self.new)["arm_id"] != self.arm_id

    @cached_property
    def sources(self) -> list[str]:
        """Where the times of its ok rows come from, if they are a program's."""
        rows = (row for side in (self.base, self.new) for found in side.values() for row in found)
        return sorted({row.get(SOURCE, "") for row in rows if row["status"] == "ok"} - {""})

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

        Across a column all of it from the runs that tell it, and of the same seeds on both sides.
        Disturbed times are kept where asked, or where there are no others. Times of several sources
        are not compared.
        """
        if metric not in self.setup.columns or (metric in BY_SOURCE and len(self.sources) > 1):
            return Pairs({}, {})
        if self.setup.columns[metric].kind == LOSS:
            return self._pairs(metric, same_machine=False, clean=False)
        together = not self.across
        found = self._pairs(metric, same_machine=together, clean=False)
        if metric not in TIMINGS or not self.disturbed.keys() & found.base.keys():
            return found
        undisturbed = self._pairs(metric, same_machine=together, clean=True)
        if undisturbed.base and not keep_disturbed:
            return undisturbed
        return replace(found, disturbed=True, decides=keep_disturbed)

    def _pairs(self, metric: str, *, same_machine: bool, clean: bool) -> Pairs:
        base: dict[int, list[float]] = {}
        new: dict[int, list[float]] = {}
        failed_base, failed_new = self.failed
        for seed in self.seeds:
            left = {} if seed in failed_base else self._figures(self.base[seed], metric, clean)
            right = {} if seed in failed_new else self._figures(self.new[seed], metric, clean)
            if same_machine:
                shared = _known(left) & _known(right)
                left = {machine: left[machine] for machine in shared}
                right = {machine: right[machine] for machine in shared}
            if self.setup.is_paired and not (left and right):
                continue
            base |= {seed: list(left.values())} if left else {}
            new |= {seed: list(right.values())} if right else {}
        return Pairs(over_seeds(base).by_seed, over_seeds(new).by_seed)

    def _figures(
        self, rows: Iterable[Row], metric: str, clean: bool
    ) -> dict[tuple[str, str], float]:
        """The known figures of ok rows by machine; where `clean`, of undisturbed ones alone."""
        return {
            machine: value
            for machine, row in _ok(rows).items()
            if not (clean and _is_disturbed(row))
            and (not self.across or row.get(self.across))
            and (value := figure_of(row, metric)) is not None
        }

    @property
    def untold(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(BASE, NEW): seeds with an ok run that does not tell the column of `across`."""
        base, new = (
            tuple(
                seed
                for seed in self.seeds
                if self.across and not all(row.get(self.across) for row in _ok(side[seed]).values())
            )
            for side in (self.base, self.new)
        )
        return base, new

    @property
    def failed(self) -> tuple[Mapping[int, str], Mapping[int, str]]:
        """(BASE, NEW): seeds that failed, of those that ended on both sides: with which status."""
        return _failed(self.base, self.seeds), _failed(self.new, self.seeds)

    @property
    def newly_failed(self) -> Mapping[int, str]:
        """Seeds that failed in NEW alone: its status. One that failed in BASE makes up for none."""
        base, new = self.failed
        return {seed: status for seed, status in new.items() if seed not in base}

    def lacking(self, metric: str, relative: bool) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """(BASE, NEW): seeds that are ok on both sides, and lack a figure that the other side has.

        It was not read, no field can hold it, or it is 0 and has no ratio. A figure that is left
        out, since something disturbed it or it is from another machine, is not lacking.
        """
        failed_base, failed_new = self.failed
        lacks_base: list[int] = []
        lacks_new: list[int] = []
        for seed in self.seeds:
            if seed in failed_base or seed in failed_new or metric not in self.setup.columns:
                continue
            base, new = (_has(side[seed], metric, relative) for side in (self.base, self.new))
            if base != new:
                (lacks_new if base else lacks_base).append(seed)
        return tuple(lacks_base), tuple(lacks_new)

    def ends(self, metric: str, relative: bool) -> Ends:
        """How the seeds did that ended on either side; what lacks the metric is missing."""
        base, new = self.failed
        lacks_base, lacks_new = self.lacking(metric, relative)
        whole = {*self.seeds} - {*lacks_base, *lacks_new}
        both = Counter((end_by(new.get(seed)), end_by(base.get(seed))) for seed in whole)
        both[End.MISSING, End.FINISHED] += len(lacks_new)
        both[End.FINISHED, End.MISSING] += len(lacks_base)
        both[End.MISSING, End.FINISHED] += len(self.only_base)
        both[End.FINISHED, End.MISSING] += len(self.only_new)
        return Ends(both)

    @property
    def elsewhere(self) -> tuple[int, ...]:
        """Seeds that are ok on both sides, but on no machine that both have in common.

        None across a column: these are compared all the same.
        """
        return tuple(
            seed
            for seed in self.seeds
            if not self.across
            and (left := _ok(self.base[seed]).keys())
            and (right := _ok(self.new[seed]).keys())
            and not _known(left) & _known(right)
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
    across: str = ""  # as of its arms


def join(base: Version, new: Version) -> Joined:
    """Arms by arm_id, which is all that was asked but the seed; names alone join nothing.

    But for the arms of a program, whose two versions are what is compared: they are joined by name,
    where no two of one side have it, and where both read their metrics alike.
    """
    left, right = base.arms, new.arms
    labels = _labels([*left.values(), *right.values()])
    same = {arm_id: arm_id for arm_id in left if arm_id in right}
    versions = {arm_id: other for arm_id, other in _versions(left, right) if arm_id not in same}
    both = {**same, **versions}
    return Joined(
        base,
        new,
        tuple(
            PairedArm(
                arm_id,
                labels[arm_id] if arm_id in same else _name(seeds),
                _first(seeds)["device"],
                seeds,
                right[both[arm_id]],
            )
            for arm_id, seeds in left.items()
            if arm_id in both
        ),
        only_base=tuple(labels[arm_id] for arm_id in left if arm_id not in both),
        only_new=tuple(labels[arm_id] for arm_id in right if arm_id not in both.values()),
    )


def _versions(
    left: Mapping[str, BySeedRows], right: Mapping[str, BySeedRows]
) -> Iterator[tuple[str, str]]:
    """The arms of a program that only their names join: arm_id of BASE and of NEW."""
    base, new = _programs({*left} - {*right}, left), _programs({*right} - {*left}, right)
    for key, arm_ids in base.items():
        others = new.get(key, [])
        if len(arm_ids) == len(others) == 1:
            yield arm_ids[0], others[0]


def _programs(
    arm_ids: Iterable[str], arms: Mapping[str, BySeedRows]
) -> dict[tuple[str, str], list[str]]:
    """The arms of programs, by what makes two of them versions of one."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for arm_id in arm_ids:
        setup = setup_of(_first(arms[arm_id]).get("settings", ""))
        if setup.program:
            read = [setup.program.get(key) for key in ("metrics", "seeds")]
            found[_name(arms[arm_id]), json.dumps(read, sort_keys=True)].append(arm_id)
    return found


def _name(arm: BySeedRows) -> str:
    row = _first(arm)
    return ", ".join(filter(None, (f"{row['model']} + {row['optimizer']}", row["device"])))


def _labels(arms: Sequence[BySeedRows]) -> dict[str, str]:
    """arm_id -> "model + optimizer, device", with the arm_id where two arms are named alike."""
    plain = {}
    for arm in arms:
        plain[_first(arm)["arm_id"]] = _name(arm)
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


def _ok(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """Those that are ok by their machine, which may hold GPUs of several kinds."""
    ok = (row for row in rows if row["status"] == "ok")
    return {(row["host_id"], row.get("gpu_name", "")): row for row in ok}


def _has(rows: Iterable[Row], metric: str, relative: bool) -> bool:
    """Whether any of those that are ok has a figure, or one that has a ratio."""
    figures = [figure_of(row, metric) for row in _ok(rows).values()]
    return any(figure is not None and (figure > 0 or not relative) for figure in figures)


def _known(machines: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without the one of imported rows, which nobody knows: two of these may be two machines."""
    return {machine for machine in machines if machine[0]}
