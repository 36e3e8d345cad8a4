"""What is submitted, as every task of it reads it: its cells, how they run, what they were."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from bench.border.atomic import write_atomically
from bench.border.identity import code_sha256, program_code_sha256
from bench.errors import FolderError, RecordError, program
from bench.run.slurm.files import SlurmFiles
from bench.run.slurm.tasks import Task


@dataclass(frozen=True)
class RunOptions:
    """Options of `run` that are the same for every task."""

    runtime: str
    worker_python: str | None
    image: str | None
    jobs: int
    retry_failed: bool


@dataclass(frozen=True)
class PlannedTask:
    """A `Task` on the disk."""

    name: str
    device: str
    only: tuple[str, ...]
    run_ids: tuple[str, ...]  # of its cells whose settings no trial decides


@dataclass(frozen=True)
class JobArray:
    """Tasks that are one job array; their indexes in it begin at 1 after `offset`."""

    name: str  # such as cpu-1
    device: str
    offset: int
    numbers: tuple[int, ...]  # of tasks in the submission, from 1

    @property
    def indexes(self) -> str:
        """As sbatch has them: 1-3,5."""
        return ",".join(
            f"{first}-{last}" if last > first else str(first)
            for first, last in _runs([number - self.offset for number in self.numbers])
        )


@dataclass(frozen=True)
class Submission:
    matrix: str  # absolute: what it names lies beside it. Its text is in SlurmFiles.matrix
    kind: str  # one of KINDS: what a task is
    options: RunOptions
    code: tuple[str, ...]  # hashes of the worker's side
    tasks: tuple[PlannedTask, ...]
    arrays: tuple[JobArray, ...]  # of those that have open cells

    def write(self, files: SlurmFiles) -> None:
        write_atomically(files.submission, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, files: SlurmFiles) -> "Submission":
        """Raises FolderError where nothing was submitted, RecordError if it cannot be read."""
        try:
            told: dict[str, Any] = json.loads(files.submission.read_text(encoding="utf-8"))
            return cls(
                matrix=told["matrix"],
                kind=told["kind"],
                options=RunOptions(**told["options"]),
                code=tuple(told["code"]),
                tasks=tuple(PlannedTask(**_tuples(each)) for each in told["tasks"]),
                arrays=tuple(JobArray(**_tuples(each)) for each in told["arrays"]),
            )
        except FileNotFoundError as error:
            raise FolderError(
                f"{files.out} was not submitted: it has no slurm/{files.submission.name}. Give the "
                f"--out of `{program()} submit slurm MATRIX`."
            ) from error
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise RecordError(
                f"{files.submission} cannot be read: {error}. Submit again, with the same --out."
            ) from error


def code_now() -> tuple[str, ...]:
    return code_sha256(), program_code_sha256()


def planned(task: Task) -> PlannedTask:
    run_ids = tuple(cell.spec.run_id for cell in task.cells if not cell.waits)
    return PlannedTask(task.name, task.device, task.only, run_ids)


def arrays_of(tasks: Sequence[PlannedTask], chosen: Sequence[int], most: int) -> list[JobArray]:
    """The chosen tasks, by their numbers from 1, as arrays of one device.

    `most`: the largest index that an array may have.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for number in chosen:
        groups.setdefault((tasks[number - 1].device, (number - 1) // most), []).append(number)
    return [
        JobArray(f"{device}-{part + 1}", device, part * most, tuple(numbers))
        for (device, part), numbers in groups.items()
    ]


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers."""
    found: list[tuple[int, int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1] = (found[-1][0], number)
        else:
            found.append((number, number))
    return found


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has lists alone."""
    return {key: tuple(each) if isinstance(each, list) else each for key, each in fields.items()}
