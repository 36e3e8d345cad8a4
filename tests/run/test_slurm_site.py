"""A matrix on a real SLURM of three nodes, whatever happens to its tasks and nodes."""

import json
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.records.folder import results_folders
from bench.records.rows import Row, read_table
from tests.builders.shared import ROOT, bench
from tests.builders.slurm_site import SlurmSite, slurm_site

MATRIX = """\
name: small
data: {{corpus: text.txt}}
train: {{steps: {steps}, batch_size: 2, block_size: 8}}
eval: {{every: {every}, train_windows: 4}}
matrix:
  model: [small]
  optimizer: [adamw, sgd]
  device: [cpu]
  seed: [1, 2, 3, 4]
models:
  small: {{base: nanogpt, n_embd: 8, n_layer: 1, n_head: 2}}
claim: {{baseline: {{model: small, optimizer: adamw}}, metric: val_loss_final, margin: 0.01}}
limits: {{memory_gib: 1, checkpoint_every: 100 steps}}
"""
FIGURES = ("val_loss_final", "train_loss_final", "val_loss_best", "data_order_hash", "init_hash")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlurmSite]:
    with slurm_site(tmp_path_factory.mktemp("slurm")) as found:
        yield found


def write_matrix(folder: Path, steps: int) -> Path:
    (folder / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 91)
    file = folder / "small.yaml"
    file.write_text(MATRIX.format(steps=steps, every=steps // 2))
    return file


def command(site: SlurmSite, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """`bench ...` on a login node."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, words)],
        cwd=ROOT,
        env=site.variables,
        capture_output=True,
        text=True,
        check=False,
    )


def rows_of(out: Path) -> list[Row]:
    return [row for each in results_folders([out]) for row in read_table(each / "runs.csv")]


def figures(rows: list[Row]) -> dict[str, tuple[str, ...]]:
    """run_id -> what is the same wherever a cell ran, of its ok row."""
    return {
        row["run_id"]: tuple(row[name] for name in FIGURES) for row in rows if row["status"] == "ok"
    }


def curves(out: Path) -> dict[str, set[tuple[str, ...]]]:
    found: dict[str, set[tuple[str, ...]]] = {}
    ok = {(row["run_id"], row["attempt"]) for row in rows_of(out) if row["status"] == "ok"}
    for each in results_folders([out]):
        for point in read_table(each / "curves.csv"):
            if (point["run_id"], point["attempt"]) in ok:
                told = (point["step"], point["train_loss"], point["val_loss"])
                found.setdefault(point["run_id"], set()).add(told)
    return found


def in_a_cell(site: SlurmSite, out: Path, left: str = "checkpoints/*") -> list[dict[str, str]]:
    """Jobs of tasks that are in the middle of a cell, as what it left tells."""
    submission = json.loads((out / "slurm" / "submission.json").read_text())
    offsets = {each["name"]: each["offset"] for each in submission["arrays"]}
    found = []
    for job in site.queue():
        array = job["name"].split("-", 2)[2]
        if job["state"] != "RUNNING" or array not in offsets:
            continue
        name = submission["tasks"][int(job["index"]) + offsets[array] - 1]["name"]
        if any((out / "tasks" / name / "cells").glob(f"*/{left}")):
            found.append({**job, "task": name})
    return found


def meet_its_twin(site: SlurmSite, out: Path, lost: dict[str, str]) -> None:
    """Let a task whose node is lost start elsewhere while it still runs: it stands for so long."""
    (runner,) = (
        process
        for process in site.processes()
        if process.cmdline()[1:4] == ["-m", "bench", "task"]
        and process.environ()["SLURMD_NODENAME"] == "n3"
        and process.environ()["SLURM_JOB_ID"] == lost["job"]
    )
    log = out / "slurm" / f"{lost['id']}.log"
    runner.suspend()
    try:
        waiting = [job["id"] for job in site.queue() if job["reason"] in ("Resources", "Priority")]
        for each in waiting:  # they would come first
            site.ask("scontrol", "hold", each)

        def waits() -> bool:
            site.hurry()
            return "waiting" in log.read_text()

        site.until(waits, "its twin, which waits for it")
        for each in waiting:
            site.ask("scontrol", "release", each)
    finally:
        runner.resume()


def as_if_of_three_hosts(out: Path, place: Path) -> set[str]:
    """The tasks' folders as they would be if the nodes were machines, which here are one.

    The nodes, as each task's log names its own.
    """
    started = re.compile(r"^task \d+ of \d+: (\S+) on (n\d)", re.MULTILINE)
    logs = sorted((out / "slurm").glob("*_*.log"))
    nodes = dict(found for log in logs for found in started.findall(log.read_text()))
    for task, node in nodes.items():
        copy = place / "tasks" / task
        shutil.copytree(out / "tasks" / task, copy)
        for file in (copy / "runs.csv", copy / "curves.csv"):
            host_id = read_table(file)[0]["host_id"]
            file.write_text(file.read_text().replace(host_id, node))
    return set(nodes.values())


@pytest.mark.slow
def test_three_nodes_have_one_section_and_one_verdict(site: SlurmSite, tmp_path: Path) -> None:
    """That of a single machine; times are told node by node."""
    matrix, out, alone = write_matrix(tmp_path, 40), tmp_path / "out", tmp_path / "alone"
    matrix.write_text(matrix.read_text().replace("[1, 2, 3, 4]", "[1, 2, 3, 4, 5, 6]"))
    answer = command(site, "submit", "slurm", matrix, "--out", out, "--go")
    assert answer.returncode == 0, answer.stderr
    site.until_empty()
    assert as_if_of_three_hosts(out, tmp_path / "hosts") == {"n1", "n2", "n3"}
    bench("run", matrix, "--out", alone, "--runtime", "local", "--jobs", "2")
    verdicts = {}
    for folder in (tmp_path / "hosts", alone):
        answer = command(site, "report", folder, "--out", folder / "report")
        assert answer.returncode == 0, answer.stderr
        told = answer.stdout.partition("Final validation loss")[2].splitlines()
        verdicts[folder.name] = told[:2]
    assert "on 6 of 6 planned seeds" in verdicts["alone"][0]
    assert verdicts["hosts"] == verdicts["alone"]
    page = (tmp_path / "hosts" / "report" / "report.md").read_text()
    assert page.count("These runs are of 3 machines of one kind.") == 1
    assert page.count("### Machine by machine") == 1
    assert "change of training time from small + adamw" in page


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_made_twice(site: SlurmSite, tmp_path: Path) -> None:
    """One task requeued, one cancelled, one node drained, one slurmd killed: all at once."""
    matrix, out, alone = write_matrix(tmp_path, 2000), tmp_path / "a'; b", tmp_path / "alone"
    given = ("submit", "slurm", matrix, "--out", out, "--task", "cell", "--go")
    answer = command(site, *given)
    assert answer.returncode == 0, answer.stderr
    assert "8 tasks, each a run" in answer.stdout
    assert len(read_table(out / "slurm" / "jobs.csv")) == 3  # two arrays, and the report

    def busy() -> set[str]:
        return {job["node"] for job in in_a_cell(site, out)}

    site.until(lambda: busy() == {"n1", "n2", "n3"}, "a cell on each node")
    on = {job["node"]: job for job in in_a_cell(site, out)}
    site.ask("scontrol", "requeue", on["n1"]["id"])
    site.ask("scancel", on["n2"]["id"])
    site.ask("scontrol", "update", "nodename=n2", "state=drain", "reason=test")
    site.kill_slurmd("n3")
    meet_its_twin(site, out, on["n3"])
    told = command(site, "status", out)
    assert told.returncode == 1, told.stderr
    refused = command(site, *given)
    assert refused.returncode == 2
    assert "in the queue, and two of one task would run the same cells" in refused.stderr
    site.until_empty()

    told = command(site, "status", out)
    assert told.returncode == 1
    assert "7 done, 1 lost" in told.stdout, told.stdout
    assert on["n2"]["task"] in told.stdout
    again = command(site, *given)
    assert again.returncode == 0, again.stderr
    assert "7 of them have no open cell" in again.stdout
    site.until_empty()
    told = command(site, "status", out)
    assert (told.returncode, told.stdout) == (0, "8 tasks: 8 done; 8 cells: 8 ok\n")

    bench("run", matrix, "--out", alone, "--runtime", "local", "--jobs", "2")
    rows = rows_of(out)
    ok = Counter(row["run_id"] for row in rows if row["status"] == "ok")
    assert set(ok.values()) == {1}, "a cell was made twice"
    assert figures(rows) == figures(rows_of(alone))
    assert len(ok) == 8
    assert curves(out) == curves(alone)
    task_of_n1 = read_table(out / "tasks" / on["n1"]["task"] / "runs.csv")
    assert [row["status"] for row in task_of_n1].count("interrupted") == 1
    assert any(row["resumed"] == "1" for row in task_of_n1), "it began anew"
    report = (out / "report" / "report.md").read_text()
    assert "8 of 8" in report


@pytest.mark.slow
def test_a_task_whose_time_is_nearly_up_goes_on_where_it_was(
    site: SlurmSite, tmp_path: Path
) -> None:
    """Unless the same time would bring it no further: then it ends, and says what to do."""
    matrix, out = write_matrix(tmp_path, 2000), tmp_path / "out"
    matrix.write_text(matrix.read_text().replace("[1, 2, 3, 4]", "[1, 2]"))
    answer = command(site, "submit", "slurm", matrix, "--out", out, "--go", "--", "--nodelist=n1")
    assert answer.returncode == 0, answer.stderr

    def jobs(left: str) -> dict[str, str]:
        return {job["task"]: job["id"] for job in in_a_cell(site, out, left)}

    site.until(lambda: "cpu-seed-2" in jobs("spec.json"), "a cell of seed 2")
    site.ask("scancel", "--batch", "--signal=USR1", jobs("spec.json")["cpu-seed-2"])
    site.until(lambda: "cpu-seed-1" in jobs("checkpoints/*"), "a cell of seed 1")
    site.ask("scancel", "--batch", "--signal=USR1", jobs("checkpoints/*")["cpu-seed-1"])
    site.until_empty()
    first, second = (
        read_table(out / "tasks" / name / "runs.csv") for name in ("cpu-seed-1", "cpu-seed-2")
    )
    assert [row["status"] for row in first] == ["interrupted", "ok", "ok"]
    assert [row["status"] for row in second] == ["interrupted"]
    # SLURM bound neither: each kept to its own.
    assert {row["cpus"] for row in (first[0], *second)} == {"0", "1"}
    one, two = sorted((out / "slurm").glob("*_*.log"))
    assert "task 1 of 2: cpu-seed-1 on n1, started again (1)" in one.read_text()
    assert "does not go back to the queue. Submit again with more" in two.read_text()
