"""The image that holds all: from an empty folder to a page, as whoever owns that folder."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from bench.border.identity import PACKAGE, code_sha256
from bench.launch import all_in_one
from bench.launch.engine import Engine
from bench.launch.image import ROOT
from bench.measure import machine, packed
from bench.measure.packed import Packed
from bench.records.rows import Row, read_table
from bench.version import __version__
from tests.builders.containers import give
from tests.builders.shared import TINY as FOUR_CELLS
from tests.builders.shared import bench, without

TINY = FOUR_CELLS.replace("[1, 2]", "[1]") + "data: {corpus: input.txt}\n"
TEXT = "the quick brown fox jumps over the lazy dog\n" * 91
SOMEBODY = 1234  # a user that neither this machine nor the image knows
# What a careful person adds to `docker run`; then nothing is left to give up, and --user says who.
CLOSED = (
    *("--user", f"{SOMEBODY}:{SOMEBODY}", "--cap-drop", "ALL", "--security-opt=no-new-privileges"),
    *("--network", "none", "--read-only", "--tmpfs", "/tmp:exec,mode=1777"),
)
LOSSES = ("train_loss_final", "val_loss_final", "init_hash", "data_order_hash", "run_id")


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a matrix and its text, and nothing else."""
    desk = tmp_path / "desk"
    desk.mkdir()
    (desk / "input.txt").write_text(TEXT)
    (desk / "tiny.yaml").write_text(TINY)
    return desk


def command(engine: Engine, image: str, desk: Path, *words: str, options: tuple[str, ...] = ()):
    folder = ["--volume", f"{desk}:/work"]
    return [engine.name, "run", "--rm", *folder, *options, image, *words]


def answer(*arguments: object, **more: object) -> subprocess.CompletedProcess[str]:
    argv = command(*arguments, **more)  # type: ignore[arg-type]
    return subprocess.run(argv, capture_output=True, text=True, timeout=600, check=False)


def rows(desk: Path) -> list[Row]:
    return read_table(desk / "results" / "tiny" / "runs.csv")


def owners(folder: Path) -> set[tuple[int, int]]:
    return {(found.st_uid, found.st_gid) for found in map(Path.lstat, folder.rglob("*"))}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("owner", "options"),
    [(0, ()), (SOMEBODY, ()), (SOMEBODY, CLOSED)],
    ids=["root", "another user", "another user, closed"],
)
def test_from_an_empty_folder_to_a_page(
    engine: Engine, image: str, desk: Path, owner: int, options: tuple[str, ...]
) -> None:
    give(desk, owner)
    told = answer(engine, image, desk, "run", "tiny.yaml", "--report", options=options)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "2 of 2 runs ok" in told.stdout
    assert "runtime: local processes in this container, which holds all in one" in told.stdout
    assert "report: results/tiny/report/index.html" in told.stdout
    assert "note:" not in told.stderr
    assert (desk / "results" / "tiny" / "report" / "index.html").stat().st_size > 10_000
    assert owners(desk) == {(owner, owner)}
    for row in rows(desk):
        assert (row["runtime"], row["memory_limit_enforced"]) == ("local", "false")
        assert row["code_sha256"] == code_sha256()
        assert row["git_commit"] == machine.working_tree()[0]
    again = answer(engine, image, desk, "run", "tiny.yaml", options=options)
    assert "2 of 2 runs ok" in again.stdout
    assert len(rows(desk)) == 2, "another container of the same machine goes on where it was"


@pytest.mark.slow
@pytest.mark.usefixtures("once")
def test_every_other_command_works_there(engine: Engine, image: str, desk: Path) -> None:
    shutil.copytree(ROOT / "results" / "original-cpu", desk / "a", ignore=_only_tables)
    for words, said in {
        ("plan", "tiny.yaml"): "open cells, one after the other",
        ("plan", "cpu"): "nanokimi",
        ("report", "a", "--out", "b"): "b/index.html",
        ("compare", "a", "a"): "nanogpt",
        ("check", "tiny.yaml"): "no class to check",
        ("schema",): '"title"',
        (): "Usage",
    }.items():
        told = answer(engine, image, desk, *words)
        assert told.returncode == 0, (words, told.stdout + told.stderr)
        assert said in told.stdout, (words, told.stdout)
    doctor = answer(engine, image, desk, "doctor")
    assert "bench-cpu: ready" in doctor.stdout
    assert "install docker" not in doctor.stdout, "there is none to install inside a container"
    assert "start the container with one: --gpus all" in doctor.stdout


def _only_tables(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("report", "cells")]


@pytest.mark.slow
@pytest.mark.usefixtures("once")
def test_a_cells_own_container_gives_the_same_losses_to_the_last_digit(
    engine: Engine, image: str, desk: Path
) -> None:
    assert answer(engine, image, desk, "run", "tiny.yaml").returncode == 0
    apart = desk / "apart"
    told = bench("run", desk / "tiny.yaml", "--runtime", engine.name, "--out", apart)
    assert told.returncode == 0, told.stdout + told.stderr
    inside, alone = rows(desk), read_table(apart / "runs.csv")
    assert [[row[name] for name in LOSSES] for row in inside] == [
        [row[name] for name in LOSSES] for row in alone
    ]
    assert {row["image_id"] for row in inside} == {row["image_id"] for row in alone}
    assert not {row["env_id"] for row in inside} & {row["env_id"] for row in alone}


@pytest.mark.slow
@pytest.mark.usefixtures("once")
def test_the_readmes_commands_as_they_are_written(
    engine: Engine, image: str, desk: Path, tmp_path: Path
) -> None:
    """But for the GPU. A matrix of that name in the folder comes before ours."""
    chapter = (ROOT / "README.md").read_text().partition("## One container for all\n")[2]
    first, cpu, gpu = chapter.partition("```bash\n")[2].partition("```")[0].splitlines()
    assert first.startswith("make image ")
    assert "--gpus all" in gpu
    (desk / "tiny.yaml").rename(desk / "cpu")
    programs = tmp_path / "programs"  # so that `docker` is the engine of this test
    programs.mkdir()
    (programs / "docker").symlink_to(str(shutil.which(engine.name)))
    told = subprocess.run(
        ["bash", "-euc", cpu],
        cwd=desk,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "PWD": str(desk)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 of 2 runs ok" in told.stdout, told.stdout + told.stderr
    assert (desk / "results" / "tiny" / "report" / "index.html").is_file()


@pytest.mark.usefixtures("once")
def test_without_a_folder_it_says_that_nothing_stays(engine: Engine, image: str) -> None:
    told = subprocess.run(
        [engine.name, "run", "--rm", image, "schema"], capture_output=True, text=True, check=True
    )
    assert "no folder of yours is at /work" in told.stderr


@pytest.mark.usefixtures("once")
def test_its_labels_and_tag_tell_what_it_was_built_from(engine: Engine, image: str) -> None:
    told = json.loads(engine.command("image", "inspect", image))[0]["Config"]
    commit, dirty = machine.working_tree()
    labels = {key.rpartition(".")[2]: value for key, value in told["Labels"].items()}
    assert labels["version"] == __version__
    assert labels["revision"] == f"{commit}{'-dirty' if dirty else ''}"
    assert labels["title"] == "bench:cpu"
    assert not told.get("Healthcheck")
    assert re.fullmatch(r"bench:cpu-[0-9a-f]{12}", image)
    again = bench("image", "cpu", "--all-in-one", "--runtime", engine.name)
    assert f"all in one: {image}, " in again.stdout, "of the same inputs it is the same image"


def test_a_clone_elsewhere_has_the_same_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And another one where anything that goes in has changed."""

    def tag(root: Path) -> str:
        monkeypatch.setattr(all_in_one, "ROOT", root)
        monkeypatch.setattr(all_in_one, "PACKAGE", root / "bench")
        return all_in_one.tag_of("cpu", "bench-cpu:1", Packed("sha256:1", "abc", False), [])

    for name in ("one", "two"):
        for file in ("pyproject.toml", "constraints.txt", ".dockerignore", "docker/as-owner.sh"):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / file, tmp_path / name / file)
        shutil.copy(ROOT / "docker" / "bench.Dockerfile", tmp_path / name / "docker")
        (tmp_path / name / "bench").mkdir()
        (tmp_path / name / "bench" / "a.py").write_text("a = 1")
    one, two = tmp_path / "one", tmp_path / "two"
    before = tag(one)
    assert tag(two) == before
    for file in (".dockerignore", "bench/a.py", "docker/as-owner.sh", "pyproject.toml"):
        (two / file).write_text("changed")
        assert tag(two) != before
        before = tag(two)


# --- Ends ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def running(engine: Engine, image: str, desk: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A container whose cell trains, and its name."""
    name = f"bench-test-{desk.parent.name}".lower()
    (desk / "tiny.yaml").write_text(TINY.replace("steps: 4", "steps: 1000000"))
    give(desk, SOMEBODY)
    argv = command(engine, image, desk, "run", "tiny.yaml", options=("--name", name))
    client = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        wait_for(lambda: any(desk.glob("results/tiny/cells/*/worker.log")), client)
        time.sleep(3)  # it imports torch; that an earlier end is well is tested elsewhere
        yield client, name
    finally:
        engine.remove(name)
        client.communicate(timeout=60)


def wait_for(met: Callable[[], bool], client: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if met():
            return
        assert client.poll() is None, client.communicate()
        time.sleep(0.1)
    raise AssertionError("it has not come in a minute")


@pytest.mark.slow
@pytest.mark.parametrize("by", ["Ctrl-C", "stop"])
def test_a_stop_leaves_rows_and_nothing_running(
    engine: Engine, image: str, desk: Path, by: str
) -> None:
    with running(engine, image, desk) as (client, name):
        if by == "stop":
            engine.command("stop", "--time", "30", name)
        else:
            client.send_signal(signal.SIGINT)
        output, _ = client.communicate(timeout=60)
        assert client.returncode == 130, output
        assert engine.command("ps", "--quiet", "--filter", f"name={name}") == ""
    (row,) = rows(desk)
    assert (row["status"], "stopped by SIG" in row["reason"]) == ("interrupted", True)
    assert owners(desk) == {(SOMEBODY, SOMEBODY)}


@pytest.mark.slow
def test_no_process_of_it_has_a_right_of_root(engine: Engine, image: str, desk: Path) -> None:
    with running(engine, image, desk) as (_, name):
        told = engine.command("exec", name, "sh", "-c", "cat /proc/[0-9]*/status")
    found = [dict(re.findall(r"(\w+):\s*(.*)", text)) for text in re.split("(?=Name:)", told)[1:]]
    pythons = [status for status in found if status["Name"].startswith("python")]
    assert len(pythons) == 2, "the program and its cell"
    for status in pythons:
        assert set(status["Uid"].split()) == {str(SOMEBODY)}
        assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"] == "1"


# --- Elsewhere -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tar_of_it_is_all_that_another_machine_needs(
    engine: Engine, image: str, tmp_path: Path
) -> None:
    """Docker's is loaded by Podman, and Podman's by Docker, where there are both."""
    others = [Engine(name) for name in ("docker", "podman") if name != engine.name]
    other = next((each for each in others if each.why_not() is None), engine)
    file = tmp_path / "bench.tar"
    engine.command("save", "--output", str(file), image, timeout_s=300)
    assert tarfile.is_tarfile(file)
    loaded = other.command("load", "--input", str(file), timeout_s=300)
    assert image in loaded
    told = subprocess.run(
        command(other, image, tmp_path, "plan", "cpu"), capture_output=True, text=True, check=False
    )
    assert (told.returncode, "open cells, one after the other" in told.stdout) == (0, True), (
        told.stdout
    )


COMPOSE = ROOT / "docker" / "compose.yaml"


def compose(engine: Engine, desk: Path, file: Path = COMPOSE) -> subprocess.CompletedProcess[str]:
    program = shutil.which("docker-compose")
    if engine.name != "docker":
        pytest.skip("it is Docker's")
    if program is None:
        without("there is no docker-compose")
    give(desk, SOMEBODY)
    return subprocess.run(
        [program, "--file", file, "run", "--rm", "bench-cpu", "run", "tiny.yaml", "--report"],
        cwd=desk,
        env={**os.environ, "PWD": str(desk)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_services_run(engine: Engine, image: str, desk: Path) -> None:
    told = compose(engine, desk)
    assert "2 of 2 runs ok" in told.stdout, told.stdout + told.stderr
    assert owners(desk) == {(SOMEBODY, SOMEBODY)}


def test_a_machine_without_a_name_gets_no_folder_in_its_place(
    engine: Engine, image: str, desk: Path, tmp_path: Path
) -> None:
    nameless, file = tmp_path / "no-machine-id", tmp_path / "compose.yaml"
    file.write_text(COMPOSE.read_text().replace("file: /etc/machine-id", f"file: {nameless}"))
    told = compose(engine, desk, file)
    assert (told.returncode, str(nameless) in told.stderr) == (1, True), told.stdout + told.stderr
    assert not nameless.exists()


def test_the_services_are_two_and_one_has_the_gpus() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    assert {name: each["image"] for name, each in services.items()} == {
        "bench-cpu": "bench:cpu",
        "bench-gpu": "bench:cuda",
    }
    devices = services["bench-gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    for each in services.values():
        (_, matrix, _) = each["command"]
        assert (PACKAGE / "matrix" / f"{matrix}.yaml").is_file()


# --- What the image tells of itself ---------------------------------------------------------------


def test_a_machine_without_a_name_of_its_own_is_known_until_it_starts_anew(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A container's host name is another one each time."""
    told = Packed("sha256:1", "abc", False)
    monkeypatch.setattr(packed, "FILE", tmp_path / "packed.json")
    packed.FILE.write_text(told.to_json())
    packed.packed.cache_clear()
    try:
        assert packed.packed() == told
        assert machine.working_tree() == ("abc", False)
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        nameless = tmp_path / "machine-id"
        monkeypatch.setattr(machine, "MACHINE_ID", nameless)
        monkeypatch.setattr(machine.platform, "node", lambda: "drawn-anew")
        assert machine.own_name() == boot
        nameless.write_text("abc\n")
        assert machine.own_name() == "abc"
    finally:
        packed.packed.cache_clear()
