"""Which cells may stand in one table: only like with like."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from bench.report.columns import TIMINGS
from bench.report.merge import Cell, Merged
from bench.report.statistics.spread import Spread, over_seeds
from bench.report.taint import Timing, timing_of

# Digits of an arm_id that tell two arms of the same names apart; all of them if these are alike.
ARM_DIGITS = 4


@dataclass(frozen=True)
class Key:
    """What all rows of a section share. A difference in any of these may change a figure.

    gpu_name is here because a machine may hold GPUs of several kinds. Of the training and
    evaluation settings, runs.csv tells the last four.
    """

    host_id: str
    env_id: str
    code_sha256: str
    corpus_sha256: str
    device: str
    gpu_name: str
    steps: float | None
    tokens_per_step: float | None
    eval_protocol: str
    threads: float | None


# Known of every row, also of one that failed, and empty there if not known.
IDENTITY = ("host_id", "env_id", "code_sha256", "corpus_sha256", "gpu_name", "eval_protocol")


@dataclass(frozen=True)
class Arm:
    """A model with an optimizer and all settings: cells that differ in their seed alone."""

    arm_id: str
    model: str
    optimizer: str
    label: str  # "model + optimizer", with digits of the arm_id where that is ambiguous
    cells: tuple[Cell, ...]  # of this section: ok, or known not to be
    seeds_planned: int  # distinct seeds that the section's folders selected for it
    cells_planned: int
    timing: Timing  # its section's
    untuned: str = ""  # of a tuned arm: the optimizer as the matrix has it; else empty

    @cached_property
    def ok(self) -> tuple[Cell, ...]:
        return tuple(cell for cell in self.cells if cell.ok)

    @property
    def n_seeds(self) -> int:
        """The n of its statistics."""
        return len(self.by_seed)

    @property
    def n_seeds_timing(self) -> int:
        """The n of its timing statistics."""
        return len(self.timed_by_seed)

    @cached_property
    def by_seed(self) -> Mapping[int, list[Cell]]:
        """Its ok cells: several for a seed that ran more than once."""
        return _by_seed(self.ok)

    @cached_property
    def timed_by_seed(self) -> Mapping[int, list[Cell]]:
        """Of these, the ones that timing statistics use."""
        return _by_seed(cell for cell in self.ok if self.timing.uses(cell))

    def spread(self, column: str) -> Spread:
        if column not in self._spreads:
            by_seed = self.timed_by_seed if column in TIMINGS else self.by_seed
            self._spreads[column] = over_seeds(
                {seed: [cell.number(column) for cell in cells] for seed, cells in by_seed.items()}
            )
        return self._spreads[column]

    @cached_property
    def _spreads(self) -> dict[str, Spread]:
        """Those that were asked for: every table and picture asks again."""
        return {}

    def constant(self, column: str) -> float | None:
        """A property that all its rows share; what was done, only the ok ones have done whole."""
        cells = self.ok if column in ("steps", "tokens") else self.cells
        known = (cell.number(column) for cell in cells)
        return next((value for value in known if value is not None), None)

    @property
    def not_ok(self) -> Counter[str]:
        return Counter(cell.status for cell in self.cells if not cell.ok)


def _by_seed(cells: Iterable[Cell]) -> dict[int, list[Cell]]:
    found: dict[int, list[Cell]] = {}
    for cell in sorted(cells, key=lambda cell: cell.seed):
        found.setdefault(cell.seed, []).append(cell)
    return found


@dataclass(frozen=True)
class Section:
    """Cells that may be compared, arm by arm."""

    key: Key
    arms: tuple[Arm, ...]  # in the order of the plans
    cells: tuple[Cell, ...]  # of all arms, in the order of the plans
    timing: Timing
    trials: tuple[Cell, ...] = ()  # of tuning: in no arm and no figure of one

    @cached_property
    def ok(self) -> list[Cell]:
        return [cell for cell in self.cells if cell.ok]

    @property
    def is_tuned(self) -> bool:
        """Whether settings were tuned for it; its tuned arms may still be missing."""
        return bool(self.trials) or any(arm.untuned for arm in self.arms)

    @property
    def has_test(self) -> bool:
        """Whether there is a test split."""
        return bool(self.values("test_loss_final"))

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


def key_of(cell: Cell) -> Key:
    """The key of an ok cell."""
    steps, tokens = cell.number("steps"), cell.number("tokens")
    return Key(
        **{name: cell.text(name) for name in IDENTITY},
        device=cell.device,
        steps=steps,
        tokens_per_step=tokens / steps if tokens is not None and steps else None,
        threads=cell.number("threads"),
    )


def make_sections(merged: Merged) -> list[Section]:
    """A section for every key that an ok row has, in the order of the plans.

    Without a single ok row there is nothing to compare, and no section.
    """
    shown = [cell for cell in merged.cells if cell.part != "trial"]
    members = _members(shown)
    trials = _members([cell for cell in merged.cells if cell.part == "trial"])
    labels = _labels(list(members.values()))
    planned: dict[str, list[Cell]] = defaultdict(list)  # arm_id -> cells of all sections
    for cell in shown:
        planned[cell.arm_id].append(cell)
    return [
        _section(key, cells, planned, labels, trials.get(key, [])) for key, cells in members.items()
    ]


def _section(
    key: Key,
    members: Sequence[Cell],
    planned: Mapping[str, Sequence[Cell]],
    labels: Mapping[str, str],
    trials: Sequence[Cell],
) -> Section:
    timing = timing_of(cell for cell in members if cell.ok)
    arms = _with_twins(_arms(members, planned, labels, timing))
    return Section(key, arms, tuple(members), timing, tuple(trials))


def _members(cells: Sequence[Cell]) -> dict[Key, list[Cell]]:
    """Key -> its ok cells, and those that were asked for the same and did not end ok."""
    keys = [key_of(cell) if cell.ok else None for cell in cells]
    folders: dict[Key, set[int]] = defaultdict(set)
    arms: dict[Key, set[str]] = defaultdict(set)
    for cell, key in zip(cells, keys, strict=True):
        if key is not None:
            folders[key].add(cell.source)
            arms[key].add(cell.arm_id)
    members: dict[Key, list[Cell]] = {key: [] for key in folders}
    fitting = _Fitting(list(folders))
    for cell, key in zip(cells, keys, strict=True):
        if key is not None:
            members[key].append(cell)
            continue
        for other in fitting.of(cell):
            if _belongs(cell, folders[other], arms[other]):
                members[other].append(cell)
    return members


class _Fitting:
    """The keys that a row which is not ok contradicts in nothing that it tells."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self.keys = keys
        self._found: dict[tuple[str, ...], list[Key]] = {}  # rows alike are many, keys few

    def of(self, cell: Cell) -> list[Key]:
        told = (cell.device, *(cell.text(name) for name in IDENTITY))
        if told not in self._found:
            self._found[told] = [key for key in self.keys if self._fits(told, key)]
        return self._found[told]

    def _fits(self, told: tuple[str, ...], key: Key) -> bool:
        names = ("device", *IDENTITY)
        return all(
            not text or text == getattr(key, name) for name, text in zip(names, told, strict=True)
        )


def _belongs(cell: Cell, folders: set[int], arms: set[str]) -> bool:
    """Whether a cell that is not ok, and fits a key, belongs to the key's ok cells.

    It did not live to tell its settings, but one matrix has one set of them: they are those of its
    folder, or of its arm elsewhere. By its arm alone it belongs only if its row names machine and
    environment, else it could have been meant for any.
    """
    return cell.source in folders or (
        cell.arm_id in arms and bool(cell.text("host_id") and cell.text("env_id"))
    )


def _arms(
    members: Sequence[Cell],
    planned: Mapping[str, Sequence[Cell]],
    labels: Mapping[str, str],
    timing: Timing,
) -> tuple[Arm, ...]:
    folders = {cell.source for cell in members}
    by_arm: dict[str, list[Cell]] = {}
    for cell in members:
        by_arm.setdefault(cell.arm_id, []).append(cell)
    arms = []
    for arm_id, mine in by_arm.items():
        # Also those of its cells that ended elsewhere: this section lacks them.
        asked = [cell for cell in planned[arm_id] if cell.source in folders]
        arms.append(
            Arm(
                arm_id=arm_id,
                model=mine[0].model,
                optimizer=mine[0].optimizer,
                label=labels[arm_id],
                cells=tuple(mine),
                seeds_planned=len({cell.seed for cell in asked}),
                cells_planned=len(asked),
                timing=timing,
                untuned=mine[0].tuned_optimizer,
            )
        )
    return tuple(arms)


def _with_twins(arms: Sequence[Arm]) -> tuple[Arm, ...]:
    """The arms; one that tuning has not bettered a second time, under its tuned name."""
    twins = []
    for arm in arms:
        cells = tuple(cell for cell in arm.cells if cell.twin)
        if cells:
            name = cells[0].twin
            label = f"{arm.model} + {name}"
            twins.append(
                replace(arm, optimizer=name, label=label, cells=cells, untuned=arm.optimizer)
            )
    return (*arms, *twins)


def _labels(sections: Sequence[Sequence[Cell]]) -> dict[str, str]:
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

    def told_apart(arm_id: str, label: str) -> str:
        few = arm_id[:ARM_DIGITS]
        return f"{label} ({few if digits[label, few] == 1 else arm_id})"

    return {
        arm_id: told_apart(arm_id, label) if label in ambiguous else label
        for arm_id, label in plain.items()
    }


def short(identity: str) -> str:
    """The first digits of a hash, without the prefix that says what kind it is."""
    return identity.rpartition(":")[2][:8]


def titles(sections: Sequence[Section]) -> list[str]:
    """What tells each section apart from the others, in words; hashes only where words fail."""
    found = [
        ", ".join(word for word in (_hardware(section), section.key.device, *_runtime(section)))
        for section in sections
    ]
    for distinctions in zip(*(_distinctions(section) for section in sections), strict=True):
        alike = Counter(found)
        apart = len(set(zip(found, distinctions, strict=True))) > len(alike)
        if apart:
            found = [f"{title}, {word}" for title, word in zip(found, distinctions, strict=True)]
    return found


def _hardware(section: Section) -> str:
    names = [section.key.gpu_name] if section.key.gpu_name else section.values("host_cpu_model")
    return ", ".join(names) or f"machine {short(section.key.host_id)}"


def _runtime(section: Section) -> list[str]:
    return [f"{name} runtime" for name in section.values("runtime")]


def _distinctions(section: Section) -> list[str]:
    key = section.key
    return [
        "corpus " + (" ".join(section.values("corpus")) or "unknown"),
        "torch " + (" ".join(section.values("torch_version")) or "unknown"),
        "unknown steps" if key.steps is None else f"{key.steps:,.0f} steps",
        "unknown tokens a step"
        if key.tokens_per_step is None
        else f"{key.tokens_per_step:,.0f} tokens a step",
        f"{key.eval_protocol or 'unknown'} evaluation",
        "unknown threads" if key.threads is None else f"{key.threads:.0f} threads",
        f"machine {short(key.host_id)}",
        f"environment {short(key.env_id)}",
        f"code {short(key.code_sha256)}",
        f"text {short(key.corpus_sha256)}",
    ]
