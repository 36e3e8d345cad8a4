"""`compare --across COLUMN`: two versions from unlike machines, by the column that sets them apart.

Runs of one seed are no pair there: each interval is of a difference of two means, losses included.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.compare.pairing import ABOUT, MAY_DIFFER, Joined, brief
from bench.errors import RequestError

# The columns that can be asked for, and what each of them names.
ACROSS = {
    "gpu_name": "kind of GPU",
    "image_id": "image",
    "driver_version": "driver",
    "host_id": "machine",
}
# What else makes figures unlike: how memory and energy were read.
SOURCES = ("gpu_mem_source", "gpu_energy_source")


def joined_across(joined: Joined, column: str) -> Joined:
    """The same arms, to be compared between the one value of a column that each side has.

    Raises:
        RequestError: unless both sides have one, and not the same.
    """
    base, new = _values(joined, column)
    if not (base and new):
        wrong = "it must be known on both sides"
    elif len(base) > 1 or len(new) > 1:
        wrong = "each side must have one of it. Give a runs.csv of one alone"
    elif base == new:
        wrong = "it must differ. Leave --across out: cells of one machine are compared in pairs"
    else:
        arms = tuple(replace(arm, across=column) for arm in joined.arms)
        return replace(joined, arms=arms, across=column)
    others = [other for other in ACROSS if _sets_apart(*_values(joined, other))]
    instead = f" Columns that would do: {', '.join(others)}." if others else ""
    raise RequestError(
        f"--across {column}: BASE has {_listed(column, base)}, NEW has {_listed(column, new)}; "
        f"{wrong}.{instead}"
    )


def _values(joined: Joined, column: str) -> tuple[Sequence[str], Sequence[str]]:
    return joined.base.ended(column), joined.new.ended(column)


def _sets_apart(base: Sequence[str], new: Sequence[str]) -> bool:
    return len(base) == len(new) == 1 and base != new


def _listed(column: str, values: Sequence[str]) -> str:
    return " and ".join(brief(column, value) for value in values) or "none that is known"


def between(joined: Joined) -> str:
    """For example "across gpu_name: A100 / H100, unpaired"; empty if it is not."""
    if not joined.across:
        return ""
    ((base,), (new,)) = _values(joined, joined.across)
    values = f"{brief(joined.across, base)} / {brief(joined.across, new)}"
    return f"across {joined.across}: {values}, unpaired"


def unlike(joined: Joined) -> tuple[list[str], list[str]]:
    """Columns but that of `across`: those that differ as well, those known on one side alone."""
    differ: list[str] = []
    unknown: list[str] = []
    for column in (*MAY_DIFFER, *ABOUT, *SOURCES):
        base, new = (set(side.told(column)) for side in (joined.base, joined.new))
        if column != joined.across and base != new:
            (differ if base and new else unknown).append(column)
    return differ, unknown


def across_words(joined: Joined) -> Iterator[str]:
    """What a reader must know of such a comparison; nothing of any other."""
    if not joined.across:
        return
    differ, unknown = unlike(joined)
    told = between(joined)
    told += f"; differs as well: {', '.join(differ)}" if differ else ""
    told += f"; known on one side alone: {', '.join(unknown)}" if unknown else ""
    yield told
    hosts = [side.ended("host_id") for side in (joined.base, joined.new)]
    if joined.across == "host_id" or (hosts[0] and set(hosts[0]) == set(hosts[1])):
        return
    base, new = (len(found) or "unknown" for found in hosts)
    machines = "one machine of each" if base == new == 1 else f"machines: {base} / {new}"
    yield f"{machines}; what differs may be the machine and not its {ACROSS[joined.across]}"
