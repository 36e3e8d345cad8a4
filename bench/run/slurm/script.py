"""The scripts that sbatch is given, as text: an array of tasks, and the report after them.

No path stands in a `#SBATCH` line, whose quoting and `%` are SLURM's own: they are words of the
command (queue.py) or quoted for the shell.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from bench.run.slurm.resources import Resources

# Before the time is up the queue tells the script, by when cells must have ended: a worker that
# does not end by itself is killed after 10 s, and rows and curves are written.
SIGNAL_S = 120
NO_FURTHER = 3  # the exit code of a task that was stopped and has nothing new to show
NO_FURTHER_SAYS = (
    "error: the time was up before a run ended or kept a checkpoint. As much again would bring no "
    "more, so this task does not go back to the queue. Submit again with more "
    "(-- --time=MINUTES), or give the matrix limits.checkpoint_every."
)
REPORT = Resources(cpus=1, memory_mib=4096, gpus=0, minutes=None)


@dataclass(frozen=True)
class JobPlace:
    """Where and with what jobs run `bench`."""

    python: str
    package: Path  # the folder that holds `bench`
    folder: Path  # the current one as it was submitted
    out: Path

    @property
    def opening(self) -> list[str]:
        return [
            "",
            f"cd {shlex.quote(str(self.folder))} || exit 1",
            f"export PYTHONPATH={shlex.quote(str(self.package))}",
        ]

    def command(self, *words: str) -> str:
        return shlex.join([self.python, "-m", "bench", *words])


def array_script(
    job_name: str, indexes: str, offset: int, resources: Resources, place: JobPlace
) -> str:
    """A task runs its cells; told that its time is nearly up it goes back to the queue.

    A signal ends bash's `wait` and not the runner, which ends its cells first: so it waits again.
    """
    task = f'"$(({offset} + SLURM_ARRAY_TASK_ID))"'
    lines = [
        "#!/bin/bash",
        *_directives(job_name, resources),
        f"#SBATCH --array={indexes}",
        "#SBATCH --requeue",
        "#SBATCH --open-mode=append",
        f"#SBATCH --signal=B:USR1@{SIGNAL_S}",
        *place.opening,
        "runner= signalled= nearly_over=",
        'trap \'signalled=1 nearly_over=1; [ -z "$runner" ] || kill -TERM "$runner"\' USR1',
        'trap \'signalled=1; [ -z "$runner" ] || kill -TERM "$runner" 2>/dev/null\' TERM',
        f"{place.command('task', str(place.out))} {task} &",
        "runner=$!",
        'wait "$runner"; code=$?',
        'while [ "$code" -gt 128 ] && [ "$signalled" ]; do',
        '    signalled=; wait "$runner"; code=$?',
        "done",
        "# 130: it ended its cells as it was told to; the same task goes on where they were.",
        'if [ "$nearly_over" ] && [ "$code" -eq 130 ]; then',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"',
        f'elif [ "$nearly_over" ] && [ "$code" -eq {NO_FURTHER} ]; then',
        f"    echo {shlex.quote(NO_FURTHER_SAYS)} >&2",
        "fi",
        'exit "$code"',
    ]
    return "\n".join(lines) + "\n"


def report_script(job_name: str, place: JobPlace) -> str:
    lines = [
        "#!/bin/bash",
        *_directives(job_name, REPORT),
        "#SBATCH --open-mode=append",
        *place.opening,
        f"exec {place.command('report', str(place.out))}",
    ]
    return "\n".join(lines) + "\n"


def _directives(job_name: str, resources: Resources) -> list[str]:
    found = [
        f"#SBATCH --job-name={job_name}",
        "#SBATCH --nodes=1",
        "#SBATCH --ntasks=1",
        f"#SBATCH --cpus-per-task={resources.cpus}",
        f"#SBATCH --mem={resources.memory_mib}M",
    ]
    if resources.gpus:
        found.append(f"#SBATCH --gres=gpu:{resources.gpus}")
    if resources.minutes is not None:
        found.append(f"#SBATCH --time={resources.minutes}")
    return found
