"""Before a run: how large a difference its seeds will show."""

import math
from collections import defaultdict
from collections.abc import Iterator

from bench.matrix.claim_forms import Claim, FixedClaim
from bench.matrix.expansion import Matrix
from bench.statistics.power import POWER, difference_found
from bench.statistics.text import counted
from bench.statistics.verdict import alpha_of_look


def differences_found(matrix: Matrix, claim: Claim | FixedClaim | None, sd: float) -> Iterator[str]:
    """Lines: what the planned seeds find, and twice and four times as many.

    sd: of paired differences; where the claim pools, or is about one configuration, of that.
    """
    seeds: dict[tuple[str, str], set[int]] = defaultdict(set)  # of an arm on a device
    for cell in matrix.cells:
        if cell.part != "trial":
            seeds[cell.spec.device, cell.spec.arm_id].add(cell.spec.seed)
    devices = [device for device, _ in seeds]
    arms, n = max(map(devices.count, devices)), min(map(len, seeds.values()))
    of_arms = claim if isinstance(claim, Claim) else None
    claims = len(of_arms.each) if of_arms else 1
    comparisons = 1 if isinstance(claim, FixedClaim) else max(1, arms - 1) * claims
    is_pooled = of_arms is not None and of_arms.variance == "pooled"
    of_difference, freedom = (math.sqrt(2) * sd, float(arms)) if is_pooled else (sd, 1.0)
    alpha, whose = alpha_of_look(1) / comparisons, "paired differences"
    if is_pooled:
        whose = "one configuration, pooled"
    if isinstance(claim, FixedClaim):  # one-sided
        alpha, whose = 2 * alpha, "one configuration"
    yield (
        f"with a standard deviation of {sd:g} ({whose}), at the first look at "
        f"{counted(comparisons, 'comparison')}, a true difference is found with a chance of "
        f"{100 * POWER:.0f} % from"
    )
    for count in (n, 2 * n, 4 * n):
        if count > 1:
            found = difference_found(count, of_difference, alpha, freedom)
            yield f"  {found:.2g} on, by {counted(count, 'seed')}"
