"""docs/cluster.md's Job: what Kubernetes takes, and its command in containers at once."""

import copy
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from bench.launch.engine import Engine
from bench.records.rows import Row, read_table
from tests.builders import pods
from tests.builders.containers import give
from tests.builders.shared import TINY, need_cpus

OLDEST = "1.29"  # that docs/cluster.md names
SHARDS = 5
TEXT = "the quick brown fox jumps over the lazy dog\n" * 91


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
def test_kubernetes_takes_the_job(version: str) -> None:
    assert f"Kubernetes {OLDEST} or newer" in pods.PAGE.read_text()
    assert version.startswith(kubernetes_validate.validate(pods.manifest(), version, strict=True))


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("spec", "completion"), 4),
        (("spec", "backoffLimitPerIndex"), "three"),
        (("spec", "template", "spec", "terminationGracePeriod"), 60),
        (("spec", "template", "spec", "containers", 0, "resources", "limits"), ["cpu"]),
        (("spec", "template", "spec", "containers", 0, "securityContext", "readOnly"), True),
    ],
    ids=lambda each: str(each[-1]) if isinstance(each, tuple) else None,
)
def test_a_slip_in_it_is_seen(place: tuple[Any, ...], value: object) -> None:
    job = copy.deepcopy(pods.manifest())
    inside: Any = job
    for step in place[:-1]:
        inside = inside[step]
    inside[place[-1]] = value
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(job, OLDEST, strict=True)


def test_what_no_schema_tells_holds() -> None:
    """The rules of the server for such Jobs, and names that must be the same twice."""
    job = pods.manifest()
    spec, pod = job["spec"], pods.pod_of(job)
    (container,) = pod["containers"]
    assert (spec["completionMode"], pod["restartPolicy"]) == ("Indexed", "Never")
    assert spec["podReplacementPolicy"] == "Failed", "with a podFailurePolicy there is no other"
    assert {each["name"] for each in container["volumeMounts"]} == {
        each["name"] for each in pod["volumes"]
    }
    (apart,) = pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert apart["labelSelector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    assert spec["completions"] == spec["parallelism"] == SHARDS


def test_what_starts_a_pod_under_docker() -> None:
    argv = pods.docker_run(pods.manifest(), 2, "a-pod", Path("/volume"), "an-image")
    assert argv == [
        *("docker", "run", "--rm", "--name", "a-pod", "--env", "JOB_COMPLETION_INDEX=2"),
        *("--user", "1000:1000", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        *("--read-only", "--cpus", "2", "--memory", "9g"),
        *("--volume", "/volume:/work", "--tmpfs", "/tmp:exec,mode=1777"),
        *("--entrypoint", "tini", "an-image", "--", "sh", "-euc"),
        "exec bench run sweep.yaml --shard $((JOB_COMPLETION_INDEX + 1))/5 "
        "--out results/sweep/tasks/$JOB_COMPLETION_INDEX --jobs auto --wait-for-folder",
    ]


def test_a_kubelet_expands_what_it_knows_and_nothing_else() -> None:
    known = {"A": "1"}
    assert pods.expanded("$(A) $A ${A} $((A + 1)) $(B) $$(A)", known) == (
        "1 $A ${A} $((A + 1)) $(B) $(A)"
    )


@pytest.mark.parametrize("index", [*range(SHARDS), None])
def test_each_index_makes_its_own_shard(tmp_path: Path, index: int | None) -> None:
    """As the shell reads it. Without an index nothing runs, rather than the first shard."""
    (container,) = pods.pod_of(pods.manifest())["containers"]
    (tmp_path / "bench").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "bench").chmod(0o755)
    tini, end, *shell = pods.command(container)
    assert (tini, end) == ("tini", "--")
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    if index is not None:
        environment["JOB_COMPLETION_INDEX"] = str(index)
    told = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False)
    if index is None:
        assert (told.returncode != 0, told.stdout) == (True, "")
    else:
        shard = f"--shard {index + 1}/{SHARDS} --out results/sweep/tasks/{index}"
        assert told.stdout == f"run sweep.yaml {shard} --jobs auto --wait-for-folder\n"


# --- Under Docker ---------------------------------------------------------------------------------


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    """What all pods share: a matrix with a seed a shard, and its text."""
    folder = tmp_path / "volume"
    folder.mkdir()
    (folder / "input.txt").write_text(TEXT)
    matrix = TINY.replace("name: tiny", "name: sweep").replace("[1, 2]", "[1, 2, 3, 4, 5]")
    matrix = matrix.replace("steps: 4", "steps: 200")
    (folder / "sweep.yaml").write_text(matrix + "data: {corpus: input.txt}\n")
    give(folder, 1000)
    return folder


class Pods:
    """Containers of the page's Job on one volume."""

    def __init__(self, engine: Engine, image: str, volume: Path) -> None:
        self.engine, self.image, self.volume = engine, image, volume
        self.job = pods.manifest()
        self.started: dict[str, subprocess.Popen[str]] = {}

    def name(self, index: int) -> str:
        return f"bench-pod-{self.volume.parent.name}-{index}".lower()

    def start(self, index: int) -> subprocess.Popen[str]:
        argv = pods.docker_run(self.job, index, self.name(index), self.volume, self.image)
        client = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.started[self.name(index)] = client
        return client

    def stop(self, index: int) -> None:
        """As a node that is drained does, once a run of it has begun."""
        task = self.volume / "results" / "sweep" / "tasks" / str(index)
        for _ in range(1200):
            if any(task.glob("cells/*/worker.log")):
                break
            assert self.started[self.name(index)].poll() is None
            time.sleep(0.1)
        grace = pods.pod_of(pods.manifest())["terminationGracePeriodSeconds"]
        self.engine.command("stop", "--time", str(grace), self.name(index), timeout_s=2 * grace)

    def end(self) -> None:
        for name, client in self.started.items():
            if client.poll() is None:
                self.engine.remove(name)
                client.communicate(timeout=60)


@pytest.fixture
def job(engine: Engine, image: str, volume: Path):
    found = Pods(engine, image, volume)
    yield found
    found.end()


@pytest.mark.slow
@pytest.mark.usefixtures("once")
def test_pods_at_once_make_every_run_once(job: Pods, volume: Path) -> None:
    """One is drained; its successor makes what is open, and the page's last line reports on all."""
    need_cpus(2)  # which is what the Job asks for
    clients = [job.start(index) for index in range(SHARDS)]
    job.stop(0)
    told = [client.communicate(timeout=600)[0] for client in clients]
    assert [client.returncode for client in clients] == [130, 0, 0, 0, 0], told
    assert all("note:" not in each and "jobs: 2 at once" in each for each in told), told
    drained = rows(volume, 0)
    assert {row["status"] for row in drained} == {"interrupted"}
    successor = job.start(0)
    assert "2 of 2 runs ok" in successor.communicate(timeout=600)[0]
    seeds = [{row["seed"] for row in rows(volume, index)} for index in range(SHARDS)]
    assert seeds == [{str(index + 1)} for index in range(SHARDS)]
    found = [row for index in range(SHARDS) for row in rows(volume, index)]
    ok = [(row["optimizer"], row["seed"]) for row in found if row["status"] == "ok"]
    assert sorted(ok) == [(name, seed) for name in ("adamw", "truemuon") for seed in "12345"]
    assert len(found) == len(ok) + len(drained)
    assert {path.stat().st_uid for path in volume.rglob("*")} == {1000}
    (last,) = re.findall(r"^docker run .* bench report .*$", pods.PAGE.read_text(), re.MULTILINE)
    report = subprocess.run(
        ["bash", "-euc", last],
        cwd=volume,
        env={**os.environ, "PWD": str(volume)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 0, report.stdout + report.stderr
    assert "10 of 10 runs ok" in report.stdout
    assert (volume / "results" / "sweep" / "report" / "index.html").is_file()


@pytest.mark.slow
@pytest.mark.usefixtures("once")
@pytest.mark.parametrize(
    ("limits", "why"),
    [
        ({"cpu": "1"}, "1 core for 1 CPU a cell"),
        ({"memory": "5Gi"}, r"[45]\.\d GiB free for 4 GiB a cell"),
    ],
    ids=["cpu", "memory"],
)
def test_a_pods_limits_say_how_many_run_at_once(
    job: Pods, limits: dict[str, str], why: str
) -> None:
    need_cpus(2)
    (container,) = pods.pod_of(job.job)["containers"]
    container["resources"]["limits"] |= limits
    told = job.start(1).communicate(timeout=600)[0]
    assert re.search(f"^jobs: 1 at once: {why}$", told, re.MULTILINE), told
    assert "2 of 2 runs ok" in told


def rows(volume: Path, index: int) -> list[Row]:
    return read_table(volume / "results" / "sweep" / "tasks" / str(index) / "runs.csv")
