"""Checkpoints: the state of a training on the disk, for another attempt to go on from."""

import hashlib
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch

from bench.border.atomic import replacing
from bench.border.checkpoints import NAME, Keeping, name_of, step_of
from bench.border.spec import CellFiles, RunSpec
from bench.worker.protocol import log
from bench.worker.state import put_back, read, taken
from bench.worker.training import Trainer

KEPT = 2  # if the last one is damaged, there is one before it


@dataclass(frozen=True)
class Resumed:
    """How an attempt began."""

    times: int = 0  # attempts of this cell that went on from a checkpoint, this one among them
    told: str | None = None  # from which step, and what was wrong with those after it


class Checkpoints:
    """Those of one cell: kept every so often, and gone on from."""

    def __init__(self, files: CellFiles, spec: RunSpec, keeping: Keeping) -> None:
        self.folder = files.checkpoints
        self.spec = spec
        self.keeping = keeping
        self.resumed = Resumed()
        self._last_step, self._last_s = 0, time.monotonic()

    def go_on(self, trainer: Trainer) -> None:
        """Bring a trainer at step 0 to the state of the last checkpoint that is whole, if any."""
        content, damaged = self._last_whole()
        if content is not None:
            put_back(trainer, self.spec, content["state"])
        elsewhere = content is not None and content["host_id"] != self.keeping.here.host_id
        told = f"step {trainer.done}{', kept on another machine' if elsewhere else ''}"
        if content is not None or damaged:
            times = 0 if content is None else content["resumed"] + 1
            self.resumed = Resumed(times, "; ".join([told, *damaged]))
        self._last_step, self._last_s = trainer.done, time.monotonic()

    def _last_whole(self) -> tuple[dict[str, Any] | None, list[str]]:
        """What the last sound checkpoint holds, and what is wrong with those after it."""
        damaged: list[str] = []
        for path in reversed(self._found()):
            try:
                return self._read(path), damaged
            except Exception as error:  # torch's reader raises whatever a damaged file leads to
                damaged.append(f"step {step_of(path.name)} is damaged: {error}")
                log(f"checkpoint {path.name} is damaged: {error}")
                path.unlink()  # the next one of this step is to be the only one
        return None, damaged

    def is_due(self, step: int) -> bool:
        """Whether one is to be kept before this step, which follows on others."""
        if step == self._last_step:
            return False
        if self.keeping.every_steps is not None:
            return step % self.keeping.every_steps == 0
        assert self.keeping.every_s is not None
        return time.monotonic() - self._last_s >= self.keeping.every_s

    @property
    def every_steps(self) -> int | None:
        return self.keeping.every_steps

    def keep(self, trainer: Trainer) -> None:
        """Write the state as it is, and remove what is older than the last KEPT.

        Raises:
            OSError: if the disk does not take it.
        """
        content = {
            "run_id": self.spec.run_id,
            "host_id": self.keeping.here.host_id,
            "resumed": self.resumed.times,
            "state": taken(trainer),
        }
        self.folder.mkdir(exist_ok=True)
        total = hashlib.sha256()

        def named() -> Path:
            return self.folder / name_of(trainer.done, total.hexdigest())

        with replacing(self.folder / "next", becomes=named) as file:
            hashed: Any = _Hashed(file, total)
            torch.save(content, hashed)
        for path in self._found()[:-KEPT]:
            path.unlink()
        self._last_step, self._last_s = trainer.done, time.monotonic()

    def _found(self) -> list[Path]:
        """All that there are, the oldest first."""
        return sorted(path for path in self.folder.glob("*") if NAME.fullmatch(path.name))

    def _read(self, path: Path) -> dict[str, Any]:
        """What `keep` wrote.

        Raises:
            ValueError: if it is not what its name says, or of another cell.
        """
        found = NAME.fullmatch(path.name)
        assert found
        if not _sha256(path).startswith(found[2]):
            raise ValueError("its bytes are not those that were written")
        content: dict[str, Any] = read(path)
        if content["run_id"] != self.spec.run_id:
            raise ValueError(f"it is of another cell, {content['run_id']}")
        return content


class _Hashed:
    """A file that is written to, and hashed on the way."""

    def __init__(self, file: BinaryIO, total: "hashlib._Hash") -> None:
        self.file, self.total = file, total

    def write(self, data: bytes) -> int:
        self.total.update(data)
        return self.file.write(data)

    def flush(self) -> None:
        self.file.flush()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
