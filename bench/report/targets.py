"""What each arm spends until it holds a target loss."""

from dataclasses import dataclass

from bench.merge.arms import Arm
from bench.merge.asked import Asked
from bench.merge.curves import Cost, seconds, seed_lines, steps, tokens
from bench.merge.sections import Section
from bench.statistics.target import ToTarget, first_held

LOSS = "val_loss_final"


@dataclass(frozen=True)
class ArmToTarget:
    arm: Arm
    steps: ToTarget
    tokens: ToTarget
    seconds: ToTarget


def target_of(section: Section, asked: Asked) -> float | None:
    """The claim's target, or the highest final loss of the worst arm.

    In nats per token; None if no arm has a loss. Without a claimed target, some seed just misses.
    """
    if asked.claim is not None and asked.claim.target is not None:
        return asked.claim.target
    worst = worst_arm(section)
    return max(worst.spread(LOSS).by_seed.values()) if worst else None


def worst_arm(section: Section) -> Arm | None:
    """That of the highest final loss on average; None if no arm has a loss."""
    known = [(spread, arm) for arm in section.arms if (spread := arm.spread(LOSS).mean) is not None]
    return max(known, key=lambda each: each[0])[1] if known else None


def to_target(section: Section, target: float) -> list[ArmToTarget]:
    """Arm by arm; a seed that failed is a miss, one whose curve is not known is absent."""
    return [
        ArmToTarget(arm, *(_cost(arm, cost, target) for cost in (steps, tokens, seconds)))
        for arm in section.arms
    ]


def _cost(arm: Arm, cost: Cost, target: float) -> ToTarget:
    failed = set(arm.failed)
    if cost is seconds and arm.timing.clean:
        failed -= arm.timing.disturbed.keys()  # of these no arm's time counts
    found: dict[int, float | None] = dict.fromkeys(failed)
    for seed, line in seed_lines(arm, cost).items():
        index = first_held(line.y.tolist(), target)
        found[seed] = None if index is None else float(line.x[index])
    return ToTarget(found)
