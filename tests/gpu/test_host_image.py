"""Containers of this machine's own Python, by a podman that was carried to it."""

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.launch.cdi import podman_words
from bench.records.rows import read_table
from tests.builders.shared import ROOT, without
from tests.gpu import host_image
from tests.gpu.host_image import device_interface, outermost

UUID = "GPU-5ad5c2b8-0000-4000-8000-000000000001"

# As on a machine that no engine was ever installed on: what pack-engine.sh carries is all there is.
BARE = """
touch "$HOME/nothing"
for name in podman conmon runc crun; do
    ! program=$(command -v $name) || mount --bind "$HOME/nothing" "$(realpath "$program")"
done
for folder in /etc/containers /usr/share/containers /etc/cni; do
    [ ! -d $folder ] || mount -t tmpfs none $folder
done
export PATH=$PATH:$HOME/engine
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder with a carried engine, for those who may mount."""
    if os.geteuid() != 0:
        without("only root makes mounts")
    for name in ("podman", "conmon", "runc", "patchelf"):
        if shutil.which(name) is None:
            without(f"{name} is not installed")
    packed = [ROOT / "tests" / "gpu" / "pack-engine.sh", tmp_path / "engine"]
    subprocess.run(packed, check=True, capture_output=True)
    return tmp_path


def on_a_bare_machine(home: Path, script: str) -> str:
    ran = subprocess.run(
        ["unshare", "--mount", "bash", "-euc", BARE + script],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home), "PYTHON": sys.executable, "DEVICE": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def with_one_cell(home: Path) -> str:
    """The line that has container.sh find a small matrix."""
    matrix = Path("tests/gpu/container.yaml")
    few = (ROOT / matrix).read_text().replace("nanogpt, nanokimi", "nanogpt")
    (home / "few.yaml").write_text(few.replace("adamw, truemuon", "adamw").replace("200", "20"))
    return f"mount --bind {home / 'few.yaml'} {matrix}"


@pytest.mark.slow
def test_cells_are_alike_in_three_places_by_a_carried_engine(home):
    into, temporary = home / "into", home / "temporary"
    for folder in (into, temporary):
        folder.mkdir()
    script = f"""
        {with_one_cell(home)}
        TMPDIR={temporary} tests/gpu/container.sh {into}
    """
    assert on_a_bare_machine(home, script).splitlines()[-1] == "places: all alike"
    runtimes = {
        place: {row["runtime"] for row in read_table(into / place / "runs.csv")}
        for place in ("local", "podman", "image")
    }
    assert runtimes == {"local": {"local"}, "podman": {"podman"}, "image": {"local"}}
    images = {row["image_id"] for row in read_table(into / "image" / "runs.csv")}
    assert images == {"bench-host"}
    assert list(temporary.iterdir()) == []
    assert {path.name for path in into.iterdir()} == {
        *("container.yaml", "places.csv", "local", "podman", "image")
    }


@pytest.mark.slow
def test_what_a_place_refuses_is_told_and_the_others_go_on(home):
    """With an engine that starts no container."""
    (home / "engine" / "podman").rename(home / "engine" / "real")
    refusing = '#!/bin/sh\n[ "$1" != run ] || { echo "no, thanks" >&2; exit 126; }\n'
    (home / "engine" / "podman").write_text(f'{refusing}exec {home}/engine/real "$@"\n')
    (home / "engine" / "podman").chmod(0o755)
    into = home / "into"
    into.mkdir()
    script = f"""
        {with_one_cell(home)}
        tests/gpu/container.sh {into} && exit 9 || echo "exit code $?"
    """
    *_, podman, image, code = on_a_bare_machine(home, script).splitlines()
    assert podman == "nanogpt + adamw in podman: no cell"
    assert image == "nanogpt + adamw in image: no cell"
    assert code == "exit code 1"
    assert len(read_table(into / "local" / "runs.csv")) == 1


@pytest.fixture
def folder_of_devices() -> Iterator[Path]:
    there = Path("/etc/cdi").exists()
    Path("/etc/cdi").mkdir(exist_ok=True)
    yield Path("/etc/cdi")
    if not there:
        Path("/etc/cdi").rmdir()


@pytest.mark.slow
def test_a_gpu_of_the_written_file_is_there_in_a_container(home, folder_of_devices):
    """In the place of GPUs, devices that give zeros."""
    dev, cdi = home / "dev", home / "cdi"
    for folder in (dev, cdi):
        folder.mkdir()
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
        os.mknod(dev / name, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
        (dev / name).chmod(0o666)
    (cdi / "nvidia.json").write_text(json.dumps(device_interface({0: UUID}, dev)))
    words = podman_words([UUID], lambda uuid: None, lambda uuid: False, [cdi])
    inside = (
        "import glob; print(*sorted(glob.glob('/dev/nvidia*')), open('/dev/nvidia0','rb').read(1))"
    )
    script = f"""
        STATE={home}/state
        {sys.executable} -m tests.gpu.host_image $STATE
        export CONTAINERS_CONF=$STATE/containers.conf CONTAINERS_STORAGE_CONF=$STATE/storage.conf
        export HOME=$STATE/home
        mount --bind {cdi} {folder_of_devices}
        podman import --quiet $STATE/root.tar localhost/host
        podman run --rm --network none --user 65532:65532 --cap-drop ALL {" ".join(words)} \
            localhost/host {sys.executable} -c "{inside}"
    """
    told = on_a_bare_machine(home, script).splitlines()[-1]
    assert told == "/dev/nvidia-uvm /dev/nvidia0 /dev/nvidiactl b'\\x00'"


def test_a_gpu_has_its_own_device_and_those_of_all(tmp_path):
    (tmp_path / "nvidia-uvm-tools").touch()
    told = device_interface({0: UUID, 3: "GPU-other"}, tmp_path)

    def paths(edits: dict[str, list[dict[str, str]]]) -> list[str]:
        return [node["path"] for node in edits["deviceNodes"]]

    shared = ["/dev/nvidiactl", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools"]
    assert paths(told["containerEdits"]) == shared
    assert {each["name"]: paths(each["containerEdits"]) for each in told["devices"]} == {
        UUID: ["/dev/nvidia0"],
        "GPU-other": ["/dev/nvidia3"],
        "all": ["/dev/nvidia0", "/dev/nvidia3"],
    }


def test_where_the_drivers_libraries_are_looked_for_is_told_to_the_container(monkeypatch, tmp_path):
    monkeypatch.setenv("LD_LIBRARY_PATH", "/usr/local/nvidia/lib64")
    told = device_interface({}, tmp_path)
    assert told["containerEdits"]["env"] == ["LD_LIBRARY_PATH=/usr/local/nvidia/lib64"]


def test_a_folder_within_another_is_mounted_once():
    paths = map(Path, ("/usr/lib/python3", "/usr", "/opt/torch/.venv", "/usr", "/usrlocal"))
    assert [*map(str, outermost(paths))] == ["/opt/torch/.venv", "/usr", "/usrlocal"]


def test_what_this_python_needs_is_mounted():
    folders = list(host_image.mounted())
    for needed in (sys.prefix, sys.base_prefix, os.path.realpath(sys.executable)):
        assert any(Path(needed).is_relative_to(folder) for folder in folders), needed
    assert Path("/") not in folders
