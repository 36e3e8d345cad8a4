"""Two versions to compare: a results folder each."""

from pathlib import Path

from bench.compare.judge import MetricChange, VersionComparison, compare
from bench.compare.pairing import join, read_version
from bench.compare.rules import parse_rules
from tests.builders.results import Results

STEP = "step_time_ms_p50>5%"
NOISE = (0.01, -0.012, 0.004, -0.007, 0.011)  # of five seeds, as a share


class Sides:
    """Two results folders in the making."""

    def __init__(self, place: Path) -> None:
        self.base, self.new = Results(place / "base"), Results(place / "new")

    def pair(self, seed: int, base: dict[str, object], new: dict[str, object], arm="adamw"):
        """One seed of an arm on both sides; fields as in runs.csv."""
        for side, fields in ((self.base, base), (self.new, new)):
            side.ended(side.planned(optimizer=arm, seed=seed), **fields)

    def times(self, ratio: float, seeds=5, arm="adamw", **fields):
        """Step times of NEW that are `ratio` those of BASE, but for some noise."""
        for seed in range(1, seeds + 1):
            base = {"step_time_ms_p50": 10.0 + seed, **fields}
            slower = (10.0 + seed) * ratio * (1 + NOISE[(seed - 1) % 5])
            self.pair(seed, base, {"step_time_ms_p50": slower, **fields}, arm)

    def losses(self, differences: list[float], arm="adamw"):
        for seed, difference in enumerate(differences, start=1):
            base, new = 2.0 + 0.1 * seed, 2.0 + 0.1 * seed + difference
            self.pair(seed, {"val_loss_final": base}, {"val_loss_final": new}, arm)

    def compared(self, *rules: str, keep: bool = False) -> VersionComparison:
        base, new = read_version(self.base.write()), read_version(self.new.write())
        return compare(join(base, new), parse_rules(rules), keep)

    def line(self, metric: str, *rules: str) -> MetricChange:
        (arm,) = self.compared(*rules).arms
        line = arm.line(metric)
        assert line is not None
        return line
