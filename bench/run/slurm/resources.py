"""What a task asks the queue for: CPUs, memory, GPUs and time, by the matrix's limits."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bench.records.cells import Cell
from bench.run.estimate import Estimate
from bench.run.lanes import gpus_each

# What `bench run` itself takes beside its cells: some 100 MiB, and a page cache to read from.
LAUNCHER_MIB = 512
# An estimate by arithmetic is right to within a factor of 3 or so; a node may be half as fast as
# the machine that was measured. Time that is not used goes back to the queue.
MARGIN = {"rough": 3.0, "measured": 2.0}
LEAST_MIN = 10  # a start, and the signal that comes before the end, are within


@dataclass(frozen=True)
class Resources:
    cpus: int
    memory_mib: int
    gpus: int
    minutes: int | None  # None: unknown


def resources_of(
    tasks: Sequence[Sequence[Cell]], jobs: int, estimates: Mapping[str, Estimate]
) -> Resources:
    """Enough for any of these tasks, each given by its open cells.

    `jobs`: cells at once; `estimates`: by arm_id.
    """
    limits = tasks[0][0].limits
    minutes = [_minutes(cells, jobs, estimates) for cells in tasks]
    known = [each for each in minutes if each is not None]
    return Resources(
        cpus=(limits.cpus or 1) * jobs,
        memory_mib=math.ceil(limits.memory_gib * 1024 * jobs) + LAUNCHER_MIB,
        gpus=gpus_each(cell for cells in tasks for cell in cells) * jobs,
        minutes=max(known) if len(known) == len(minutes) else None,
    )


def _minutes(cells: Sequence[Cell], jobs: int, estimates: Mapping[str, Estimate]) -> int | None:
    """With a margin, and no more than the cells' own limits of time allow."""
    walls_s = list(_walls_s(cells, estimates))
    if len(walls_s) < len(cells):
        return None
    # The longest may begin last.
    expected_s = (sum(walls_s) - max(walls_s)) / jobs + max(walls_s)
    most_s = math.ceil(len(cells) / jobs) * cells[0].limits.timeout_s
    return max(LEAST_MIN, math.ceil(min(expected_s, most_s) / 60))


def _walls_s(cells: Iterable[Cell], estimates: Mapping[str, Estimate]) -> Iterable[float]:
    for cell in cells:
        expected = estimates[cell.spec.arm_id]
        if expected.wall_s is not None:
            yield expected.wall_s * MARGIN[expected.basis]
