"""One planned cell: what is asked, what it may use, its place in the order, its part in tuning."""

from dataclasses import dataclass
from typing import Literal

from bench.border.options import Limits
from bench.border.spec import RunSpec


@dataclass(frozen=True)
class Tried:
    """What a cell is to the tuning of its arm."""

    part: Literal["trial", "tuned"]
    optimizer: str  # of the matrix: the one that is tuned
    trial: int | None  # from 1; None: which one is best is known when all of them have ended
    settings: str  # those that the space names, as canonical JSON; empty where not known yet
    shared: str  # the `settings` of its arm in the matrix: training may be tuned as well
    study: int | None = None  # from 1; None: all is tuned once


@dataclass(frozen=True)
class Cell:
    """One planned run."""

    spec: RunSpec
    limits: Limits
    order_in_seed: int
    tried: Tried | None = None  # None: it is of the matrix itself

    @property
    def place(self) -> tuple[str, str, str, int]:
        """What a matrix calls it: no two of its cells share these names."""
        spec = self.spec
        return spec.model.name, spec.optimizer.name, spec.device, spec.seed

    @property
    def part(self) -> str:
        """trial, tuned, or empty for a cell of the matrix itself."""
        return self.tried.part if self.tried else ""

    @property
    def waits(self) -> bool:
        """Whether it can run only when the trials have told its settings."""
        return self.tried is not None and not self.tried.settings

    @property
    def columns(self) -> dict[str, str | int | None]:
        """What it is, as columns of plan.csv and runs.csv."""
        spec = self.spec
        columns: dict[str, str | int | None] = {
            "run_id": spec.run_id,
            "arm_id": spec.arm_id,
            "model": spec.model.name,
            "optimizer": spec.optimizer.name,
            "device": spec.device,
            "seed": spec.seed,
            "order_in_seed": self.order_in_seed,
            "settings": spec.settings,
        }
        if self.tried:
            columns |= {
                "part": self.tried.part,
                "tuned_optimizer": self.tried.optimizer,
                "trial": self.tried.trial,
                "tuned_settings": self.tried.settings,
                "study": self.tried.study,
                "settings": self.tried.shared,
            }
        return columns
