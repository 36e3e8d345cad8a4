"""The files of what is submitted: OUT/slurm, and a results folder a task under OUT/tasks."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from bench.errors import RequestError
from bench.records.folder import TASKS


@dataclass(frozen=True)
class SlurmFiles:
    """`out` is absolute: jobs start elsewhere."""

    out: Path

    @classmethod
    def at(cls, out: Path) -> "SlurmFiles":
        """Raises RequestError for a folder whose name SLURM does not keep."""
        path = Path(os.path.abspath(out))  # with links: a node may have no other way there
        if bad := sorted(set(str(path)) & set("\\\n\r")):
            raise RequestError(
                f"--out {path}: SLURM drops {bad[0]!r} from the names of files. Give a folder "
                "without it."
            )
        return cls(path)

    @property
    def folder(self) -> Path:
        return self.out / "slurm"

    @property
    def submission(self) -> Path:
        """What tasks run: written when all of it is sound, before the first job is."""
        return self.folder / "submission.json"

    @property
    def matrix(self) -> Path:
        """The matrix as it was submitted."""
        return self.folder / "matrix.yaml"

    @property
    def jobs(self) -> Path:
        return self.folder / "jobs.csv"

    @property
    def report_script(self) -> Path:
        return self.folder / "report.sbatch"

    def script(self, array: str) -> Path:
        return self.folder / f"{array}.sbatch"

    def task(self, name: str) -> Path:
        """The results folder of a task."""
        return self.out / TASKS / name

    def job_name(self, what: str) -> str:
        """By which the queue tells the jobs of this folder from all others."""
        return f"bench-{hashlib.sha256(str(self.out).encode()).hexdigest()[:8]}-{what}"
