"""What one network's inference times differ by under several optimizers: not by the network."""

from collections.abc import Iterator, Sequence
from itertools import combinations

from bench.merge.arms import Arm
from bench.statistics.spread import Spread

COLUMN = "infer_time_ms_p50"
MARK = "‡"  # after the heading of the column

# Standard deviations over seeds, of the arm that has the larger one, that explain a difference.
EXPLAINED = 2.0


def note(arms: Sequence[Arm]) -> str:
    """A sentence for each network whose times differ by more than its seeds explain; else empty."""
    found = [
        f"{slow.model} is the same network under {fast.optimizer} and {slow.optimizer}, and its "
        f"inference times differ by {100 * gap:.0f} %, which is more than twice the larger "
        "standard deviation over seeds: smaller differences between models tell nothing."
        for fast, slow, gap in _widest(arms)
    ]
    return f"{MARK}: {' '.join(found)}" if found else ""


def _widest(arms: Sequence[Arm]) -> Iterator[tuple[Arm, Arm, float]]:
    """Of each network: the arms with the largest unexplained difference, and its share."""
    networks: dict[tuple[str, float], list[Arm]] = {}
    for arm in arms:
        size = arm.constant("n_params")
        # What a sparse mixture computes depends on its weights, which optimizers make different.
        if size is not None and size == arm.constant("n_params_active"):
            networks.setdefault((arm.model, size), []).append(arm)
    for alike in networks.values():
        ranked = sorted(alike, key=lambda arm: arm.spread(COLUMN).mean or 0.0)
        gaps = [
            (fast, slow, _unexplained(fast.spread(COLUMN), slow.spread(COLUMN)))
            for fast, slow in combinations(ranked, 2)
        ]
        widest = max(gaps, key=lambda found: found[2], default=None)
        if widest and widest[2]:
            yield widest


def _unexplained(fast: Spread, slow: Spread) -> float:
    """The difference as a share of the faster time; 0 where seeds explain it, or one is unknown.

    A deviation that is not known, of one seed alone, explains nothing.
    """
    if fast.mean is None or slow.mean is None or fast.mean <= 0:
        return 0.0
    gap = slow.mean - fast.mean
    return gap / fast.mean if gap > EXPLAINED * max(fast.sd or 0.0, slow.sd or 0.0) else 0.0
