"""Which cells `--only K=V` and `--shard I/N` choose."""

import re
from collections.abc import Sequence

from bench.errors import RequestError, nearest
from bench.matrix.forms import AXES
from bench.records.cells import Cell


def select(cells: Sequence[Cell], only: Sequence[str], shard: str | None) -> set[str]:
    """The run_ids of the cells that are chosen.

    Several --only must all hold; those of one key are alternatives. A shard is a contiguous part
    of the running order, so that a seed's arms, which are compared as pairs, stay on one machine
    wherever the number of shards allows.

    Raises:
        RequestError: for a key, a value or a shard that does not exist.
    """
    chosen = cells if shard is None else _shard(cells, shard)
    wanted: dict[str, set[str]] = {}
    for rule in only:
        key, _, value = rule.partition("=")
        if key not in AXES:
            raise RequestError(f"--only {rule}: no such key. {nearest(key, AXES)}")
        valid = {axis_values(cell)[key] for cell in cells}
        if value not in valid:
            raise RequestError(
                f"--only {rule}: no cell has it. {nearest(value, valid)} "
                f"Or add it to `{key}` in the matrix file."
            )
        wanted.setdefault(key, set()).add(value)
    return {
        cell.spec.run_id
        for cell in chosen
        if all(axis_values(cell)[key] in values for key, values in wanted.items())
    }


def axis_values(cell: Cell) -> dict[str, str]:
    return dict(zip(AXES, map(str, cell.place), strict=True))


def _shard(cells: Sequence[Cell], shard: str) -> Sequence[Cell]:
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard, re.ASCII)
    index, count = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= count:
        raise RequestError(f"--shard {shard!r}: write I/N with 1 <= I <= N, such as 2/5.")
    return cells[(index - 1) * len(cells) // count : index * len(cells) // count]
