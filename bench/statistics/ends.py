"""How the seeds of an arm ended, and those of two arms together."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum


class End(StrEnum):
    """How one seed of an arm ended."""

    FINISHED = "finished"
    DIVERGED = "diverged"  # ranks below every finished one
    MISSED = "short of the target"  # finished, and ranks with those that diverged: a claim's target
    FAILED = "failed"  # by its own doing: it crashed, or went beyond a limit
    MISSING = "missing"  # open, interrupted, skipped, or lost to a fault of the machine
    OTHERWISE = "run under other code or on another machine"  # of a seed that is missing here


FAILURES = (End.DIVERGED, End.MISSED, End.FAILED)
LAST = (End.DIVERGED, End.MISSED)  # worse than any figure


@dataclass(frozen=True)
class Ends:
    """How the seeds of a comparison ended: (new arm, baseline) -> at how many of them.

    Seeds that neither arm brought to an end of its own are `left_out`: they tell nothing.
    """

    count: Mapping[tuple[End, End], int]

    @property
    def left_out(self) -> int:
        return self._at({End.MISSING}, {End.MISSING})

    @property
    def all_finished(self) -> bool:
        """Whether every other seed finished in both arms."""
        return self.rest == self._at({End.FINISHED}, {End.FINISHED})

    @property
    def rest(self) -> int:
        """Seeds that either arm brought to an end of its own."""
        return sum(self.count.values()) - self.left_out

    @property
    def ended(self) -> int:
        """Seeds that both arms brought to an end of their own."""
        own = (End.FINISHED, *FAILURES)
        return self._at(own, own)

    @property
    def failed_new(self) -> int:
        return self._at(FAILURES, set(End))

    @property
    def failed_base(self) -> int:
        return self._at(set(End), FAILURES)

    def against_better(self) -> tuple[int, int]:
        """(won, lost) by the new arm where not both finished, as is worst for it.

        A seed that it failed or lacks is lost, one at which the baseline diverged, or fell short
        of the target, is won; where both is so, neither. The baseline's other failures, and seeds
        that it lacks, are no pairs.
        """
        not_new = set(End) - {End.FINISHED}
        won = self._at({End.FINISHED}, LAST)
        return won, self._at(not_new, set(End).difference(LAST)) - self.left_out

    def against_worse(self) -> tuple[int, int]:
        """(won, lost) by the new arm, as is worst for the baseline: the mirror image."""
        mirrored = Ends({(base, new): n for (new, base), n in self.count.items()})
        lost, won = mirrored.against_better()
        return won, lost

    @property
    def apart(self) -> tuple[Counter[End], Counter[End]]:
        """(new arm, baseline): how the runs of either ended, where seeds make no pairs."""
        new, base = Counter[End](), Counter[End]()
        for (one, other), n in self.count.items():
            if (one, other) != (End.MISSING, End.MISSING):
                new[one] += n
                base[other] += n
        return new, base

    def _at(self, new: Collection[End], base: Collection[End]) -> int:
        return sum(n for (one, other), n in self.count.items() if one in new and other in base)
