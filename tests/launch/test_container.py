"""Cells in containers: the command, and what a real engine makes of it."""

import dataclasses
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.border.surroundings import KEEP_MEMORY
from bench.errors import CorpusError, EngineError, MissingError
from bench.launch import container, image
from bench.launch.cdi import podman_words
from bench.launch.container import ContainerLauncher, check_readable, mount, run_argv
from bench.launch.engine import Engine
from bench.launch.image import find_image
from bench.launch.job import Job, Stop
from bench.matrix.expansion import load_matrix
from bench.measure.host import HostSample, read_host
from bench.records.corpora import find_corpus
from tests.builders.containers import Heard, run_inside

RECORDED = """\
docker run --interactive --name bench-FOLDER-abc-1 --label bench.records.folder=FOLDER
--pull never --log-driver none --network none --read-only
--tmpfs /tmp:rw,exec,nosuid,nodev,size=1g --tmpfs /dev/shm:rw,noexec,nosuid,nodev,size=1g
--cap-drop ALL --security-opt no-new-privileges
--user 65532:65532 --pids-limit 512 --memory 2147483648b --memory-swap 2147483648b
--cpuset-cpus 2,3 --gpus device=GPU-abc
--env GLIBC_TUNABLES=KEEP_MEMORY --env LC_ALL=C.UTF-8
--env OMP_DYNAMIC=FALSE --env OMP_NUM_THREADS=1 --env OMP_THREAD_LIMIT=2147483647
--env MKL_NUM_THREADS=1 --env TORCHINDUCTOR_COMPILE_THREADS=1
--env TORCHINDUCTOR_CPP_CACHE_PRECOMPILE_HEADERS=0 --env USER=bench
--env PYTHONINSPECT= --env PYTHONOPTIMIZE= --env PYTHONWARNINGS=
--env PYTHONDONTWRITEBYTECODE=1 --env PYTHONHASHSEED=0
--env PYTHONNOUSERSITE=1 --env PYTHONUNBUFFERED=1 --env PYTHONUTF8=1
--env HOME=/tmp --env PYTHONPATH=/opt/bench
--env TORCHINDUCTOR_CACHE_DIR=/cell/compiled --env TRITON_CACHE_DIR=/cell/compiled/triton
--mount type=bind,source=/results/x/cells/abc-1,target=/cell
--mount type=bind,source=/results/x/cells/abc-1/spec.json,target=/cell/spec.json,readonly
--mount type=bind,source=/cache/text.tokens,target=/corpus.tokens,readonly
--mount type=bind,source=PACKAGE,target=/opt/bench/bench,readonly
sha256:123 python3 -P -m bench.worker /cell /corpus.tokens
"""


@pytest.fixture
def job(tiny_matrix: Path) -> Job:
    matrix = load_matrix(tiny_matrix)
    spec = matrix.with_corpus(find_corpus(matrix.corpus).ref).cells[0].spec
    return Job(
        spec=spec,
        limits=Limits(memory_gib=2.0, cpus=2),
        files=CellFiles(Path("/results/x/cells/abc-1")),
        tokens=(Path("/cache/text.tokens"),),
        cpus=(2, 3),
        gpu_uuids=("GPU-abc",),
    )


def recorded(**changes: str) -> list[str]:
    """The words of RECORDED, after these changes to its text."""
    text = RECORDED
    for before, after in changes.items():
        text = text.replace(before, after)
    folder = container.folder_label(Path("/results/x")).partition("=")[2]
    text = text.replace("FOLDER", folder).replace("PACKAGE", str(image.PACKAGE))
    return text.replace("KEEP_MEMORY", KEEP_MEMORY).split()


def test_the_command_is_the_recorded_one(job: Job) -> None:
    words = run_argv("docker", "sha256:123", job, 65532, 65532, gpu=["--gpus", "device=GPU-abc"])
    assert words == recorded()


@pytest.mark.parametrize(
    ("engine", "recorded_words"),
    [
        ("docker", '--gpus "device=GPU-abc,GPU-def"'),
        ("podman", "--device nvidia.com/gpu=GPU-abc --device nvidia.com/gpu=GPU-def"),
    ],
)
def test_several_gpus_come_in_together(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str, recorded_words: str
) -> None:
    listed = [{"name": uuid} for uuid in ("GPU-abc", "GPU-def", "GPU-ghi")]
    (tmp_path / "nvidia.json").write_text(json.dumps({"kind": "nvidia.com/gpu", "devices": listed}))
    there = partial(podman_words, folders=(tmp_path,))
    monkeypatch.setattr(container, "podman_words", there)
    monkeypatch.setattr(Engine, "info", lambda self: {"Runtimes": {"nvidia": {}}})
    words = ContainerLauncher(Engine(engine))._gpu(("GPU-abc", "GPU-def"))
    two = dataclasses.replace(job, gpu_uuids=("GPU-abc", "GPU-def"))
    argv = run_argv("docker", "sha256:123", two, 65532, 65532, gpu=words)
    several = {"--gpus device=GPU-abc": recorded_words, "--pids-limit 512": "--pids-limit 1024"}
    assert argv == recorded(**several)


PODMAN = "--read-only-tmpfs=false --stop-timeout 0"


def test_podman_takes_the_same_and_what_docker_does_unasked(job: Job) -> None:
    gpu = ["--device", "nvidia.com/gpu=0"]
    own = {"--pids-limit": f"{PODMAN} --pids-limit", "docker run": "podman run"}
    device = {"--gpus device=GPU-abc": " ".join(gpu)}
    assert run_argv("podman", "sha256:123", job, 65532, 65532, gpu=gpu) == recorded(**own, **device)
    rootless = run_argv("podman", "sha256:123", job, 1000, 1000, gpu=gpu)
    mapped = {"65532:65532": "1000:1000", "--pids": "--userns keep-id --pids"}
    assert rootless == recorded(**own, **device, **mapped)


def test_a_limit_without_its_control_group_is_not_asked_for(job: Job) -> None:
    """A rootless engine refuses the container instead of ignoring the limit."""
    limits = {"--cpuset-cpus 2,3": "", "--gpus device=GPU-abc": ""}
    held = run_argv("docker", "sha256:123", job, 65532, 65532, held_by={"memory", "pids"})
    assert held == recorded(**limits)
    limits |= {"--memory 2147483648b --memory-swap 2147483648b": "", "--pids-limit 512": ""}
    assert run_argv("docker", "sha256:123", job, 65532, 65532, held_by=()) == recorded(**limits)


def test_files_of_tokens_are_mounted_one_by_one_in_their_order(job: Job) -> None:
    """Their names may be alike, and may hold anything."""
    files = (Path("/data/a,1.bin"), Path("/data/b/x.bin"), Path("/data/c/x.bin"))
    several = dataclasses.replace(job, tokens=files, gpu_uuids=())
    words = run_argv("docker", "sha256:123", several, 65532, 65532)
    mounts = [words[at + 1] for at, word in enumerate(words) if word == "--mount"]
    assert mounts[2:5] == [
        'type=bind,"source=/data/a,1.bin",target=/corpus.tokens/0,readonly',
        "type=bind,source=/data/b/x.bin,target=/corpus.tokens/1,readonly",
        "type=bind,source=/data/c/x.bin,target=/corpus.tokens/2,readonly",
    ]
    inside = [f"/corpus.tokens/{number}" for number in range(3)]
    assert words[-5:] == ["bench.worker", "/cell", *inside]


@pytest.mark.parametrize("name", ["a,b", 'quo"te', "a b", "x,readonly", "$(touch x)"])
def test_a_path_is_one_field_of_a_mount_whatever_it_holds(name: str) -> None:
    import csv

    (fields,) = csv.reader([mount(Path("/r") / name, "/cell")])
    assert fields == ["type=bind", f"source=/r/{name}", "target=/cell"]


def test_a_missing_image_names_the_command_that_builds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "image_id", lambda self, name: None)
    with pytest.raises(MissingError, match=r"make image-cuda .*RUNTIME=local"):
        image.require_image(Engine("docker"), "cuda")


def test_a_base_that_cannot_be_had_names_both_ways_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Engine, *arguments: str, timeout_s: float = 0) -> str:
        raise EngineError("no such image" if arguments[0] == "image" else "no route to host")

    monkeypatch.setattr(Engine, "command", refuse)
    with pytest.raises(MissingError, match=r"make base-offline .*RUNTIME=local"):
        image.find_base(Engine("docker"))


def test_the_tag_follows_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    one = image.tag("cpu", "base:1")
    assert one == image.tag("cpu", "base:1")
    assert one != image.tag("cpu", "base:2")
    assert one.replace("cpu", "cuda") != image.tag("cuda", "base:1")
    monkeypatch.setenv("TORCH_INDEX", "elsewhere")
    assert one != image.tag("cpu", "base:1")


# Real containers.

INSIDE = """
import json, os, pathlib, socket
def refused(action):
    try: action()
    except OSError as error: return type(error).__name__
    return None
def connect():
    socket.create_connection(("192.0.2.1", 80), timeout=3)
status = dict(line.split(":", 1) for line in open("/proc/self/status") if ":" in line)
print(json.dumps({
    "uid": os.getuid(),
    "network": refused(connect),
    "interfaces": [name for _, name in socket.if_nameindex()],
    "root": refused(lambda: pathlib.Path("/opt/x").write_text("x")),
    "code": refused(lambda: pathlib.Path("/opt/bench/bench/x").write_text("x")),
    "corpus": refused(lambda: open("/corpus.tokens", "a").close()),
    "spec": refused(lambda: open("/cell/spec.json", "a").close()),
    "cell": refused(lambda: pathlib.Path("/cell/mine").write_text("x")),
    "scratch": refused(lambda: pathlib.Path("/tmp/x").write_text("x")),
    "others": os.listdir("/cell"),
    "capabilities": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "no_new_privileges": status["NoNewPrivs"].strip(),
    "cpus": sorted(os.sched_getaffinity(0)),
}))
"""


def test_a_cell_is_closed_as_far_as_it_goes(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ended = run_inside(engine, cell, monkeypatch, INSIDE)
    seen = ended.last_event
    assert seen is not None, cell.files.log.read_text()
    assert seen["uid"] == (os.getuid() or container.NOBODY)
    assert seen["network"] == "OSError"
    assert seen["interfaces"] == ["lo"]
    for place in ("root", "code", "corpus", "spec"):
        assert seen[place] in ("OSError", "PermissionError"), place
    assert seen["cell"] is None
    assert seen["scratch"] is None
    assert "other-1" not in seen["others"]
    assert seen["capabilities"] == 0
    assert seen["no_new_privileges"] == "1"
    assert seen["cpus"] == list(cell.cpus)


def test_memory_beyond_the_limit_is_the_kernels_kill(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loaded engine may hear of the end before the kernel's notice, and then forgets the notice
    (docker 20.10, seen once): three at most."""
    small = dataclasses.replace(cell, limits=Limits(timeout_s=60.0, memory_gib=0.1, cpus=1))
    for _ in range(3):
        _, ended = run_inside(engine, small, monkeypatch, "x = bytearray(10**9)")
        assert ended.code == 137
        if ended.oom_killed:
            return
    pytest.fail("the engine told of no kill")


def test_an_end_like_a_kill_is_not_taken_for_the_kernels(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, ended = run_inside(engine, cell, monkeypatch, "raise SystemExit(137)")
    assert (ended.code, ended.oom_killed) == (137, False)


@pytest.mark.slow
def test_a_deaf_cell_is_gone_after_its_time(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.launch.process.GRACE_S", 1.0)
    short = dataclasses.replace(cell, limits=Limits(timeout_s=2.0, cpus=1))
    text = "import signal, time; signal.signal(15, signal.SIG_IGN); time.sleep(60)"
    launcher, ended = run_inside(engine, short, monkeypatch, text)
    assert ended.ended_by == "timeout"
    label = container.folder_label(cell.files.folder.parent.parent)
    assert launcher.engine.containers(label) == []


def test_what_a_killed_runner_left_is_found_by_its_label_and_removed(
    engine: Engine, tmp_path: Path
) -> None:
    mine, other = tmp_path / "mine", tmp_path / "other"
    found = find_image(engine, "cpu")
    assert found is not None
    try:
        for folder in (mine, other):
            label = container.folder_label(folder)
            words = ("--detach", "--stop-timeout", "0", "--label", label)
            engine.command("run", *words, found[0], "sleep", "60")
        launcher = ContainerLauncher(engine)
        assert launcher.clean(mine) == 1
        assert launcher.clean(mine) == 0
        assert len(engine.containers(container.folder_label(other))) == 1
    finally:
        for folder in (mine, other):
            engine.remove(*engine.containers(container.folder_label(folder)))


def test_an_engine_that_refuses_says_so_in_its_own_words(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container, "_image_id", lambda *_: "sha256:" + "0" * 64)
    with pytest.raises(
        EngineError, match=r"(?i)did not start .*(no such|unable|not found|not known)"
    ):
        ContainerLauncher(engine).run(cell, Heard(), Stop())


@pytest.mark.slow
def test_its_processes_and_their_memory_are_seen_from_outside(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (
        "import subprocess, sys, time\n"
        "subprocess.Popen(['sleep', '20'])\n"
        "held = bytearray(200 * 2**20)\n"
        "print('{}', flush=True); time.sleep(20)\n"
    )
    stop, seen = Stop(), list[tuple[set[int], HostSample]]()

    class Looking(Heard):
        def event(self, event: dict[str, Any]) -> None:
            found = self.find()
            assert found is not None
            assert found.own_cgroup is not None
            seen.append((found.pids(), read_host(cell.cpus, found)))
            stop.set("seen")

    run_inside(engine, cell, monkeypatch, text, Looking(), stop)
    ((pids, sample),) = seen
    assert len(pids) == 2
    assert sample.rss_mib is not None
    assert sample.rss_mib > 200
    assert sample.cell_cpu_s is not None
    assert sample.cell_cpu_s > 0
    assert sample.cgroup_peak_mib is None or sample.cgroup_peak_mib > 200
    assert sample.throttled_s is not None


def test_processes_of_another_machines_engine_are_not_taken_for_ours(
    engine: Engine, cell: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It answers with a number that here belongs to a process of somebody else."""
    identity = ("a" * 64, os.getpid())
    monkeypatch.setattr(Engine, "identity", lambda self, name: identity)
    assert ContainerLauncher(engine)._processes("any") is None


@pytest.mark.slow
def test_the_worker_runs_in_it(engine: Engine, cell: Job) -> None:
    heard = Heard()
    ended = ContainerLauncher(engine).run(cell, heard, Stop())
    assert ended.code == 0, cell.files.log.read_text()
    assert json.loads(cell.files.result.read_text())["status"] == "ok"
    assert {event["stage"] for event in heard.events} >= {
        "import",
        "data",
        "build",
        "train",
        "eval",
    }


def test_a_token_file_that_nobody_may_read_is_told_before_the_launch(tmp_path: Path) -> None:
    path = tmp_path / "train.bin"
    path.write_bytes(b"1234")
    path.chmod(0o644)
    check_readable((path,))
    path.chmod(0o640)
    with pytest.raises(
        CorpusError, match=r"train\.bin cannot be read in a container: you are root"
    ):
        check_readable((path,))
