"""Checkpoints of a cell: what they are called, how often they are made, and where.

The worker alone writes and reads them; the launching side moves and removes files by these names.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from bench.border.atomic import write_atomically
from bench.border.circumstances import Circumstances

# How often, as a matrix says it.
EVERY = re.compile(r"^([1-9][0-9]*) (steps?|min)$")
# The step that comes next, and the start of the file's SHA-256: a damaged one is told by its name.
NAME = re.compile(r"step-([0-9]{9})-([0-9a-f]{16})[.]pt")


def name_of(step: int, sha256: str) -> str:
    return f"step-{step:09}-{sha256[:16]}.pt"


def step_of(name: str) -> int:
    found = NAME.fullmatch(name)
    assert found, name
    return int(found[1])


@dataclass(frozen=True)
class Keeping:
    """What the launching side tells a worker that is to keep checkpoints, in a file of its cell."""

    every: str  # as EVERY has it
    here: Circumstances

    @property
    def every_steps(self) -> int | None:
        return self._number("step")

    @property
    def every_s(self) -> int | None:
        minutes = self._number("min")
        return None if minutes is None else 60 * minutes

    def _number(self, unit: str) -> int | None:
        found = EVERY.match(self.every)
        assert found, self.every
        return int(found[1]) if found[2].startswith(unit) else None

    def write(self, path: Path) -> None:
        content = {"every": self.every, "here": self.here._asdict()}
        write_atomically(path, json.dumps(content) + "\n", mode=0o644)

    @classmethod
    def read(cls, path: Path) -> "Keeping | None":
        """None where no checkpoints were asked for.

        Raises:
            ValueError: for a file that is not what `write` leaves.
        """
        if path.is_symlink() or not path.is_file():
            return None
        try:
            content = json.loads(path.read_bytes())
            found = cls(content["every"], Circumstances(**content["here"]))
        except (KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} does not say who keeps checkpoints: {error}") from error
        if not EVERY.match(found.every):
            raise ValueError(f"{path} does not say how often: {found.every}")
        return found
