"""SLURM's commands: made and read by pure functions, and called here."""

import re
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.errors import MissingError, QueueError, RequestError

PATIENCE_S = 60  # a busy controller answers late; SLURM's own MessageTimeout is 10 s a try
FIELDS = ("Name", "ArrayTaskID", "RestartCnt", "NodeList", "StartTime", "State", "Reason")
# Of one job or node: CPUs that each has of a node, as that node numbers them.
CPU_IDS = re.compile(r"^\s*Nodes=(\S+) CPU_IDs=(\S+)", re.MULTILINE)
# By the name and the index a job is known again; the others would tear tasks apart, or wait.
OURS = ("-J", "--job-name", "-a", "--array", "-n", "--ntasks", "-N", "--nodes", "-W", "--wait")


@dataclass(frozen=True)
class Queued:
    """A job that is in the queue: a task of an array, or a job by itself."""

    name: str
    index: int | None  # in its array
    state: str  # PENDING, RUNNING, COMPLETING, ...
    node: str
    since: str  # when it started, or is expected to; empty: unknown
    restarts: int
    reason: str  # why it waits


def sbatch(script: Path, log: str, further: Sequence[str], after: Sequence[str] = ()) -> list[str]:
    """Further words win over what the script says; its log lies beside it.

    `log`: a name as sbatch has them, such as %A_%a.log; `after`: jobs that must have ended first.
    """
    folder = str(script.parent).replace("%", "%%")  # as SLURM writes one sign in a path
    depends = [f"--dependency=afterany:{':'.join(after)}"] if after else []
    return ["sbatch", "--parsable", f"--output={folder}/{log}", *further, *depends, str(script)]


def squeue(names: Iterable[str]) -> list[str]:
    wanted = ",".join(f"{field}:|" for field in FIELDS)
    return ["squeue", "--noheader", "--array", f"--name={','.join(names)}", f"--Format={wanted}"]


def show_config() -> list[str]:
    return ["scontrol", "show", "config"]


def show_job(job_id: str) -> list[str]:
    return ["scontrol", "show", "job", "-d", job_id]


def check_further(words: Sequence[str]) -> None:
    """Raises RequestError for words that sbatch would not read, or that are ours."""
    if words and not words[0].startswith("-"):
        raise RequestError(
            f"{words[0]!r} is no option of sbatch. Its words come after --, such as "
            "-- --partition=long."
        )
    for word in words:
        name = word.partition("=")[0]
        taken = [
            ours
            for ours in OURS
            if name == ours or (len(ours) == 2 and re.match(rf"{ours}[^-]", word))
        ]
        if taken and word.startswith("-"):
            raise RequestError(
                f"{word}: the name, the indexes and the size of its jobs `submit` gives itself. "
                "Leave it out."
            )


def read_job_id(answer: str) -> str:
    """Of sbatch --parsable: the number, and a cluster where there are several."""
    number = answer.strip().partition(";")[0]
    if not number.isdecimal():
        raise QueueError(f"sbatch answered {answer.strip()!r} in place of the number of a job.")
    return number


def read_queue(answer: str) -> list[Queued]:
    found = []
    for line in answer.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < len(FIELDS):
            raise QueueError(f"squeue answered {line!r}; wanted were {', '.join(FIELDS)}.")
        name, index, restarts, node, since, state, reason = fields[: len(FIELDS)]
        found.append(
            Queued(
                *(name, int(index) if index.isdecimal() else None, state, node),
                since if since != "N/A" else "",
                int(restarts) if restarts.isdecimal() else 0,
                reason,
            )
        )
    return found


def read_largest_index(answer: str) -> int:
    """Of an array, by the cluster's settings. MaxArraySize is one more."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", answer, re.MULTILINE)
    if not found:
        raise QueueError("`scontrol show config` tells no MaxArraySize.")
    if int(found[1]) < 2:
        raise QueueError("this cluster allows no job arrays: its MaxArraySize is below 2.")
    return int(found[1]) - 1


def read_cpus(answer: str, node: str) -> set[int] | None:
    """The CPUs that a job has of a node, by `scontrol show job -d`; None: it does not tell."""
    for nodes, ids in CPU_IDS.findall(answer):
        if nodes == node:
            return _numbers(ids)
    return None


def _numbers(ids: str) -> set[int]:
    """0-2,5 -> 0, 1, 2, 5."""
    found: set[int] = set()
    for part in ids.split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def ask(command: Sequence[str]) -> str:
    """What a command of SLURM's prints.

    Raises:
        MissingError: if it is not here.
        QueueError: if it fails, with what it said.
    """
    try:
        answer = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=PATIENCE_S
        )
    except FileNotFoundError as error:
        raise MissingError(
            f"there is no {command[0]} here. Submit from where SLURM's commands are (a login node)."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise QueueError(
            f"{command[0]} gave no answer within {PATIENCE_S} s. Try again when the queue answers."
        ) from error
    if answer.returncode:
        said = " ".join(answer.stderr.split()) or f"exit code {answer.returncode}"
        raise QueueError(f"{command[0]} failed: {said.rstrip('.')}.")
    return answer.stdout
