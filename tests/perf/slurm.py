"""What a queue and the way into it cost a run: `python -m tests.perf.slurm [TASKS...]`, as root.

Tasks of ten short runs (of a program without torch) on one node of two CPUs, in a SLURM that is
started for it. Leave the machine alone meanwhile. Printed for each number of tasks:

ours       seconds a run between the start and the end of a job in which no run was made: the task
           begins, checks what was submitted, commits rows, ends
queue      seconds a task for which a CPU was free and nothing was started on it
report     seconds of the last job
"""

import argparse
import datetime
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import yaml

from bench.records.folder import results_folders
from bench.records.rows import read_table
from tests.builders.shared import ROOT
from tests.builders.slurm_site import SlurmSite, slurm_site

ARMS = 10  # runs of a seed, and so of a task
SLOTS = 2  # CPUs of the node
SCRIPT = "for step in range(1, 11):\n    print(f'step {step}: loss {1 / step:.4f}')\n"
SCRIPT += "print('val loss 0.5')\n"


def write_matrix(folder: Path, tasks: int) -> Path:
    (folder / "train.py").write_text(SCRIPT)
    content = {
        "name": "short",
        "program": {
            "path": "./train.py",
            "command": ["python", "train.py", "{optimizer}", "{seed}"],
            "read": [r"step (?P<step>\d+): loss (?P<loss>\S+)", r"val loss (?P<val_loss>\S+)"],
        },
        "matrix": {
            "model": ["small"],
            "optimizer": [f"arm{n}" for n in range(ARMS)],
            "device": ["cpu"],
            "seed": list(range(1, tasks + 1)),
        },
        "limits": {"memory_gib": 0.5},
    }
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump(content))
    return file


def seconds(site: SlurmSite) -> tuple[list[float], float, float]:
    """Of each task its job's, of the report its job's, and from the first start to the last end of
    a task. SLURM tells whole seconds.
    """
    jobs = site.ask("scontrol", "show", "job", "-o").splitlines()
    spans: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for job in jobs:
        begin, end = (
            datetime.datetime.fromisoformat(found[1]).timestamp()
            for name in ("StartTime", "EndTime")
            if (found := re.search(rf"\b{name}=(\S+)", job))
        )
        spans["ArrayTaskId=" in job].append((begin, end))
    tasks, ((begin, end),) = spans[True], spans[False]
    makespan = max(last for _, last in tasks) - min(first for first, _ in tasks)
    return [last - first for first, last in tasks], end - begin, makespan


def measure(tasks: int) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="bench-slurm-") as place,
        slurm_site(Path(place) / "slurm", array_size=1001) as site,
    ):
        folder = Path(place)
        matrix, out = write_matrix(folder, tasks), folder / "out"
        words: Iterable[str | Path] = ("submit", "slurm", matrix, "--out", out, "--go")
        subprocess.run(
            [sys.executable, "-m", "bench", *words, "--", "--nodelist=n1"],
            cwd=ROOT,
            env=site.variables,
            check=True,
        )
        site.until(lambda: not site.queue(), "the end", within_s=3600)
        of_tasks, of_report, makespan = seconds(site)
        assert len(of_tasks) == tasks
        rows = [row for each in results_folders([out]) for row in read_table(each / "runs.csv")]
        assert len(rows) == tasks * ARMS
        assert {row["status"] for row in rows} == {"ok"}
        runs_s = sum(float(row["wall_time_s"]) for row in rows)
        print(
            f"{tasks} tasks of {ARMS} runs, {runs_s / len(rows):.2f} s each: "
            f"ours {(sum(of_tasks) - runs_s) / len(rows):.2f} s a run, "
            f"queue {(makespan * SLOTS - sum(of_tasks)) / tasks:.2f} s a task, "
            f"report {of_report:.0f} s",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.slurm", description=__doc__)
    parser.add_argument("tasks", nargs="*", type=int, default=[8, 64], metavar="TASKS")
    for tasks in parser.parse_args().tasks:
        measure(tasks)


if __name__ == "__main__":
    main()
