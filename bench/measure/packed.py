"""What an image that holds this program tells of itself (docker/bench.Dockerfile)."""

import json
from dataclasses import asdict, dataclass
from functools import cache

from bench.border.identity import PACKAGE

FILE = PACKAGE.parent / "packed.json"


@dataclass(frozen=True)
class Packed:
    cell_image: str  # id of the image below it, in which a cell's own container would run
    git_commit: str | None  # of the working tree that it was built from
    git_dirty: bool | None

    def to_json(self) -> str:
        return json.dumps(asdict(self))


@cache
def packed() -> Packed | None:
    """None where the program runs from a clone or an installation."""
    return Packed(**json.loads(FILE.read_text(encoding="utf-8"))) if FILE.exists() else None
