"""Which cells may stand in one table: only like with like."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from bench.merge.merging import EndedCell
from bench.records.endings import kind_of_machine


@dataclass(frozen=True)
class Key:
    """What all rows of a section share: all that decides losses.

    Machines on which these come out alike stand together; where not even that is known, `machine`
    is one alone. Where the settings of an older folder are not known, the last four are what its
    rows tell of them. Those of a program are in its settings; how far it came is its own doing.
    """

    machine: str  # of its kind, by `kind_of_machine`; empty: its GPU decides
    env_id: str
    code_sha256: str
    corpus_sha256: str
    device: str
    gpu_name: str
    settings: str
    steps: float | None
    tokens_per_step: float | None
    eval_protocol: str
    threads: float | None


# Known of every row, also of one that failed, and empty there if not known.
IDENTITY = ("env_id", "code_sha256", "corpus_sha256", "gpu_name", "eval_protocol")


def key_of(cell: EndedCell) -> Key:
    """The key of an ok cell."""
    known = ("steps", "tokens", "threads") if not cell.setup.program else ()
    of = {name: cell.number(name) for name in known}
    steps, tokens = of.get("steps"), of.get("tokens")
    return Key(
        **{name: cell.text(name) for name in IDENTITY},
        machine=kind_of_machine(cell.row or {}),
        device=cell.device,
        settings=cell.settings,
        steps=steps,
        tokens_per_step=tokens / steps if tokens is not None and steps else None,
        threads=of.get("threads"),
    )


def alike(cells: Sequence[EndedCell]) -> dict[Key, list[EndedCell]]:
    """Key -> its ok cells, and those that were asked for the same and did not end ok."""
    keys = [key_of(cell) if cell.ok else None for cell in cells]
    folders: dict[Key, set[int]] = defaultdict(set)
    arms: dict[Key, set[str]] = defaultdict(set)
    for cell, key in zip(cells, keys, strict=True):
        if key is not None:
            folders[key].add(cell.source)
            arms[key].add(cell.arm_id)
    members: dict[Key, list[EndedCell]] = {key: [] for key in folders}

    @cache  # rows alike are many, keys few
    def fitting(**told: str) -> list[Key]:
        """The keys that a row which is not ok contradicts in nothing that it tells."""
        known = {name: text for name, text in told.items() if text}
        return [key for key in members if known.items() <= vars(key).items()]

    for cell, key in zip(cells, keys, strict=True):
        if key is not None:
            members[key].append(cell)
            continue
        # It did not live to tell its settings, but one matrix has one set of them: they are those
        # of its folder, or of its arm elsewhere. By its arm alone it belongs only if its row names
        # machine and environment, else it could have been meant for any.
        told = {name: cell.text(name) for name in IDENTITY}
        kind = kind_of_machine(cell.row or {})
        names_place = cell.text("host_id") and told["env_id"]
        for other in fitting(machine=kind, device=cell.device, settings=cell.settings, **told):
            by_arm = names_place and cell.arm_id in arms[other]
            if by_arm or cell.planned_in & folders[other]:
                members[other].append(cell)
    return members
