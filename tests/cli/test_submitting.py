"""`submit`, `task` and `status` as they are typed, where there is no SLURM."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.border.identity import code_sha256
from bench.cli import app
from bench.errors import BenchError, MissingError, QueueError, RequestError
from bench.merge.merging import merge
from bench.records.columns import RUN_COLUMNS
from bench.records.folder import results_folders
from bench.records.rows import read_table, write_table
from tests.builders.shared import ROOT, bench, write_tiny_matrix

# No SLURM on the PATH; a terminal of any width.
BARE = {"PATH": "/nowhere", "COLUMNS": "300"}


def typed(*words: str | Path, **variables: str) -> str:
    """What `bench ...` prints, in this process.

    Raises:
        BenchError: as the command did.
    """
    answer = CliRunner().invoke(app, [*map(str, words)], env=BARE | variables)
    if answer.exception and not isinstance(answer.exception, SystemExit):
        raise answer.exception
    assert answer.exit_code == 0, answer.output
    return answer.output


def on_its_own(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """The same as a process, which may run cells."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, **BARE},
        capture_output=True,
        text=True,
        check=False,
    )


def prepared(folder: Path) -> Path:
    """A tiny matrix that was written for the queue."""
    typed("submit", "slurm", write_tiny_matrix(folder), "--out", folder / "out")
    return folder / "out"


def test_without_go_it_says_what_to_type(tmp_path: Path) -> None:
    words = ("--", "--partition=a b")
    matrix = write_tiny_matrix(tmp_path)
    answer = typed("submit", "slurm", matrix, "--out", tmp_path / "out", *words)
    slurm = tmp_path / "out" / "slurm"
    note, *lines = answer.splitlines()
    assert note.startswith("note: there is no scontrol here. Submit from where SLURM's commands")
    assert note.endswith("arrays are of up to 1000 tasks, as SLURM comes")
    assert lines == [
        "2 tasks, each all runs of a seed on one device",
        "a task on cpu: 1 CPU, 4608 MiB, 10 min",
        "to submit, give --go, or type:",
        f"cpu_1=$(sbatch --parsable --output={slurm}/%A_%a.log '--partition=a b' "
        f"{slurm}/cpu-1.sbatch)",
        f"sbatch --parsable --output={slurm}/report-%j.log '--partition=a b' "
        f"--dependency=afterany:$cpu_1 {slurm}/report.sbatch",
    ]
    assert {file.name for file in slurm.iterdir()} == {
        *("cpu-1.sbatch", "report.sbatch", "matrix.yaml", "submission.json")
    }


def test_every_task_has_its_plan_before_it_starts(tmp_path: Path) -> None:
    """A report names the cells of one that never did: no seed is left out by not running it."""
    tasks = prepared(tmp_path) / "tasks"
    for seed in ("1", "2"):
        folder = tasks / f"cpu-seed-{seed}"
        selected = [row for row in read_table(folder / "plan.csv") if row["selected"] == "true"]
        assert [row["seed"] for row in selected] == [seed, seed]
        assert read_table(folder / "runs.csv") == []
    assert [cell.status for cell in merge(results_folders([tmp_path / "out"])).counted] == [
        "open"
    ] * 4


def test_with_go_and_without_slurm_nothing_is_written(tmp_path: Path) -> None:
    matrix = write_tiny_matrix(tmp_path)
    with pytest.raises(
        MissingError, match=r"no scontrol here\. Submit from where SLURM's commands"
    ):
        typed("submit", "slurm", matrix, "--out", tmp_path / "out", "--go")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--runtime", "docker"], "outside of the job's limits, and outlive it"),
        (["--runtime", "auto"], "Allowed: local, apptainer"),
        (["--runtime", "apptainer"], "needs --image FILE.sif"),
        (["--image", "x.sif"], "needs --runtime apptainer"),
        (["--task", "arm"], "--task arm: no such kind. Allowed: cell, seed."),
        (["--", "other.yaml"], "is no option of sbatch"),
        (["--", "--array=1"], "gives itself"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path: Path, words: list[str], says: str) -> None:
    matrix = write_tiny_matrix(tmp_path)
    with pytest.raises(RequestError, match=re.escape(says)):
        typed("submit", "slurm", matrix, "--out", tmp_path / "out", *words)
    assert not (tmp_path / "out").exists()


def test_a_queue_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        BenchError, match=re.escape("submit slrum: no such queue. Did you mean 'slurm'?")
    ):
        typed("submit", "slrum", write_tiny_matrix(tmp_path))


def test_another_kind_of_task_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    """Its cells would run a second time, in other folders."""
    out = prepared(tmp_path)
    with pytest.raises(
        BenchError, match=re.escape("a task was a seed, and its runs would be made a second time")
    ):
        typed("submit", "slurm", tmp_path / "tiny.yaml", "--out", out, "--task", "cell")


# Takes two jobs and then no more; the array is still in the queue.
SBATCH = """\
#!/bin/sh
echo "$@" >>"$TOLD"
count=$(wc -l <"$TOLD")
[ "$count" -le "$TAKES" ] || { echo "sbatch: error: QOSMaxSubmitJobPerUserLimit" >&2; exit 1; }
echo "$((40 + count));cluster"
"""
SCONTROL = "#!/bin/sh\necho 'MaxArraySize            = 2'\n"
SQUEUE = "#!/bin/sh\n[ ! -f \"$TOLD\" ] || echo 'bench-1-cpu-1|1|0|n1|N/A|RUNNING|None|'\n"


@pytest.fixture
def stands(tmp_path: Path) -> dict[str, str]:
    """Variables under which SLURM's commands are stand-ins."""
    for name, text in {"sbatch": SBATCH, "scontrol": SCONTROL, "squeue": SQUEUE}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    told = str(tmp_path / "told")
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "TOLD": told, "TAKES": "9"}


def test_with_go_the_jobs_are_submitted_and_recorded(
    tmp_path: Path, stands: dict[str, str]
) -> None:
    """Arrays of one task each, as this cluster allows no more; then the report, after both."""
    given = ("submit", "slurm", write_tiny_matrix(tmp_path), "--out", tmp_path / "out", "--go")
    answer = typed(*given, **stands)
    assert "job 41: 1 task on cpu\njob 42: 1 task on cpu\njob 43: the report" in answer
    assert "--dependency=afterany:41:42 " in (tmp_path / "told").read_text().splitlines()[2]
    jobs = read_table(tmp_path / "out" / "slurm" / "jobs.csv")
    assert [tuple(job.values()) for job in jobs] == [
        ("41", "cpu-1", "1"),
        ("42", "cpu-2", "2"),
        ("43", "report", ""),
    ]
    with pytest.raises(RequestError, match=r"has 1 job in the queue, and two of one task"):
        typed(*given, **stands)


def test_a_queue_that_takes_no_more_is_told_with_what_it_has(
    tmp_path: Path, stands: dict[str, str]
) -> None:
    given = ("submit", "slurm", write_tiny_matrix(tmp_path), "--out", tmp_path / "out", "--go")
    with pytest.raises(QueueError, match=r"QOSMaxSubmit.*End these and submit again: scancel 41"):
        typed(*given, **stands | {"TAKES": "1"})
    jobs = read_table(tmp_path / "out" / "slurm" / "jobs.csv")
    assert [job["job_id"] for job in jobs] == ["41"]


def test_what_changed_since_is_planned_anew(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    plan = out / "tasks" / "cpu-seed-1" / "plan.csv"
    before = plan.read_bytes()
    typed("submit", "slurm", tmp_path / "tiny.yaml", "--out", out)
    assert plan.read_bytes() == before
    (tmp_path / "text.txt").write_text("another text\n" * 400)
    typed("submit", "slurm", tmp_path / "tiny.yaml", "--out", out)
    chosen = [row for row in read_table(plan) if row["selected"] == "true"]
    submitted = json.loads((out / "slurm" / "submission.json").read_text())
    assert [row["run_id"] for row in chosen] == submitted["tasks"][0]["run_ids"]
    assert plan.read_bytes() != before


def test_failed_runs_are_open_where_they_are_to_be_made_again(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    task = out / "tasks" / "cpu-seed-1"
    planned = [row for row in read_table(task / "plan.csv") if row["selected"] == "true"]
    rows = [
        {**row, "host_id": "h", "attempt": 1, "status": status, "code_sha256": code_sha256()}
        for row, status in zip(planned, ("ok", "crashed"), strict=True)
    ]
    kept = [{key: value for key, value in row.items() if key in RUN_COLUMNS} for row in rows]
    write_table(task / "runs.csv", RUN_COLUMNS, kept)
    given = ("submit", "slurm", tmp_path / "tiny.yaml", "--out", out)
    assert "1 of them have no open cell" in typed(*given)
    assert "no open cell" not in typed(*given, "--retry-failed")
    other = [row | {"code_sha256": "another"} for row in kept]
    write_table(task / "runs.csv", RUN_COLUMNS, other)
    assert "no open cell" not in typed(*given), "rows of another code count"


@pytest.mark.slow
def test_a_task_runs_its_cells_and_what_is_done_is_not_submitted_again(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    matrix = tmp_path / "tiny.yaml"
    text = matrix.read_text()
    # What was submitted is what runs, whatever becomes of the file.
    matrix.write_text(text.replace("steps: 4", "steps: 5"))
    ran = on_its_own("task", out, "1")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.startswith("task 1 of 2: cpu-seed-1\n")
    assert {row["steps"] for row in read_table(out / "tasks" / "cpu-seed-1" / "runs.csv")} == {"4"}
    told = on_its_own("status", out)
    assert told.returncode == 1
    assert "2 tasks: 1 done, 1 open; 4 cells: 2 ok, 2 open" in told.stdout
    matrix.write_text(text)
    again = on_its_own("submit", "slurm", matrix, "--out", out)
    assert "1 of them have no open cell" in again.stdout, again.stderr
    assert "#SBATCH --array=2\n" in (out / "slurm" / "cpu-1.sbatch").read_text()
    assert on_its_own("task", out, "2").returncode == 0
    assert on_its_own("status", out).stdout.startswith("2 tasks: 2 done; 4 cells: 4 ok\n")
    last = on_its_own("submit", "slurm", matrix, "--out", out)
    assert last.returncode == 0
    assert "nothing to submit" in last.stdout
    report = bench("report", out)
    assert "4 of 4 runs ok" in report.stdout
    assert (out / "report" / "index.html").is_file()
    assert bench("bundle", out).returncode == 0
    assert bench("verify", tmp_path / "out.tar.gz").returncode == 0


def test_a_task_ends_where_what_it_runs_has_changed(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    (tmp_path / "text.txt").write_text("another text\n" * 400)
    with pytest.raises(
        BenchError, match=re.escape("cpu-seed-1: 2 of 2 cells are others than were submitted")
    ):
        typed("task", out, "1")
    submission = out / "slurm" / "submission.json"
    text = submission.read_text()
    before = text.partition('"code": [\n  "')[2][:64]
    submission.write_text(text.replace(before, "0" * 64))
    with pytest.raises(
        BenchError,
        match=re.escape("the program has changed since this was submitted (its code was 000000"),
    ):
        typed("task", out, "1")
    assert read_table(out / "tasks" / "cpu-seed-1" / "runs.csv") == []


def test_a_task_that_does_not_exist_is_told(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=re.escape("there is no task 3: 2 were submitted")):
        typed("task", prepared(tmp_path), "3")


def test_a_job_whose_cpus_are_not_known_does_not_take_others(tmp_path: Path) -> None:
    out = prepared(tmp_path)
    # More than any machine has are not bound; here no scontrol tells which.
    job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n1", "SLURM_CPUS_ON_NODE": "0"}
    with pytest.raises(
        BenchError, match=re.escape("which are its own `scontrol show job -d` does not tell")
    ):
        typed("task", out, "1", **job)
