"""`check` of a program: each arm for some seconds where its cells would run, with two seeds."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from bench.matrix.trials import Arm, arm_of
from bench.measure.machine import Machine
from bench.records.cells import Cell
from bench.run.standing import skip_reason
from bench.run.tryout import CheckResult, Left, TryOut

MODULE = "bench.program"
CHECK_S = 60.0  # unless all its patterns have read a line before


def check_program(
    cells: Sequence[Cell], machine: Machine, try_out: TryOut
) -> Iterator[CheckResult]:
    """What is found of each arm, as it is found."""
    arms: dict[Arm, list[Cell]] = {}
    for cell in cells:
        if not cell.tried:
            arms.setdefault(arm_of(cell), []).append(cell)
    for of_arm in arms.values():
        first, second = _two_seeds(of_arm)
        name = f"{first.spec.model.name} + {first.spec.optimizer.name}"
        if why := skip_reason(first, machine):
            yield CheckResult(name, first.spec.device, False, why)
            continue
        asked = {"check.json": json.dumps({"seconds": min(CHECK_S, first.limits.timeout_s)})}
        left = try_out(first, MODULE, asked)
        found = list(left.findings(name))
        yield from found
        if not all(each.ok for each in found) or _seeds_in_one(first):
            continue
        again = try_out(second, MODULE, asked)
        yield from (each for each in again.findings(name) if not each.ok)
        yield _seeds(name, (first, second), _losses(left), _losses(again))


def _two_seeds(cells: Sequence[Cell]) -> tuple[Cell, Cell]:
    """Two cells of an arm; where the matrix has one, the other is of a seed beside it."""
    first = cells[0]
    spec = replace(first.spec, seed=first.spec.seed + 1)
    return first, next(iter(cells[1:]), replace(first, spec=spec))


def _seeds_in_one(cell: Cell) -> bool:
    """Whether all its seeds are runs of one process."""
    return bool(cell.spec.program and cell.spec.program.trials)


def _losses(left: Left) -> list[Any]:
    """Those that were read first, in order."""
    try:
        losses: list[Any] = json.loads(left.result)["losses"]
    except (ValueError, LookupError, TypeError):
        return []
    return losses


def _seeds(
    name: str, cells: tuple[Cell, Cell], losses: Sequence[Any], others: Sequence[Any]
) -> CheckResult:
    """Whether two seeds are two runs, by what both printed."""
    both = min(len(losses), len(others))
    told = " and ".join(str(cell.spec.seed) for cell in cells)
    if not both:
        return CheckResult(name, "seeds", False, f"no loss was read of seeds {told}")
    if losses[:both] != others[:both]:
        return CheckResult(name, "seeds", True, f"seeds {told} print different losses")
    program = cells[0].spec.program
    assert program is not None
    what = f"seeds {told} print the same {both} losses, to the last digit: "
    if program.seeds == "replicates":
        remedy = "it does not seed itself anew. Reach its seed, by program.replace or an argument"
    else:
        remedy = "the seed does not reach it. Put {seed} in place of its own by program.replace"
    return CheckResult(name, "seeds", False, what + remedy)
