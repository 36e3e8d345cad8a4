"""This machine's own Python as an image of podman: `python -m tests.gpu.host_image FOLDER`.

A machine without a network has no image, and torch with CUDA is gigabytes. So the image is a root
folder of empty folders, and podman's settings mount into every container, read-only, what this
Python needs from the machine. FOLDER receives root.tar, containers.conf, storage.conf, a home that
holds podman's policy, and where NVML lists GPUs nvidia.json: what NVIDIA's toolkit would write to
/etc/cdi, for the devices alone, since the driver's libraries come along with the rest. Needs root,
and podman (4.3 or later).
"""

import ctypes
import io
import json
import os
import resource
import shutil
import sys
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pynvml
import torch

DRIVER = ("libcuda.so.1", "libnvidia-ml.so.1")
SHARED = ("nvidiactl", "nvidia-uvm")  # devices of all GPUs
TOOLS = "nvidia-uvm-tools"  # likewise, where it is there
# What the loader and compilers look up by; the rest of /etc is this machine's own affair.
SETTINGS = tuple(map(Path, ("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime")))
EMPTY = ("proc", "sys", "dev", "run", "tmp", "etc", "var", "work", "cell")


def main(folder: str) -> None:
    into = Path(folder)
    into.mkdir(parents=True, exist_ok=True)
    write_root(into / "root.tar")
    (into / "containers.conf").write_text(containers_conf(into, mounted()))
    (into / "storage.conf").write_text(storage_conf(into))
    settings = into / "home" / ".config" / "containers"
    settings.mkdir(parents=True)
    (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    if uuids := gpu_uuids():
        torch.cuda.is_available()  # at the first call of CUDA the driver makes /dev/nvidia-uvm
        (into / "nvidia.json").write_text(json.dumps(device_interface(uuids, Path("/dev"))))


def write_root(file: Path) -> None:
    """The links of this machine's root (bin to usr/bin), and folders to mount into."""
    links = {path.name: os.readlink(path) for path in Path("/").iterdir() if path.is_symlink()}
    with tarfile.open(file, "w") as root:
        for name, target in sorted(links.items()):
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target.removeprefix("/")
            root.addfile(link)
        for name in EMPTY:
            place = tarfile.TarInfo(name)
            place.type, place.mode = tarfile.DIRTYPE, 0o755
            root.addfile(place, io.BytesIO())


def mounted() -> list[Path]:
    """What this Python needs from the machine: itself, torch, the driver, and the system below."""
    system = [Path("/", name) for name in ("usr", "bin", "sbin", "lib", "lib64")]
    python = [Path(sys.prefix), Path(sys.base_prefix), Path(torch.__file__).parent.parent]
    python += [Path(sys.executable).parent, Path(sys.executable).resolve().parent]
    packages = [Path(each) for each in os.environ.get("PYTHONPATH", "").split(":") if each]
    wanted = [*system, *python, *packages, *driver_folders(), *SETTINGS]
    return list(outermost(path for path in wanted if path.exists() and not path.is_symlink()))


def driver_folders() -> Iterator[Path]:
    """Where the loader finds the driver's libraries."""
    for name in DRIVER:
        try:
            ctypes.CDLL(name)
        except OSError:  # no driver here
            continue
    for line in Path("/proc/self/maps").read_text().splitlines():
        _, _, rest = line.partition("/")
        path = Path("/", rest)
        if any(path.name.startswith(name.partition(".")[0]) for name in DRIVER):
            yield path.parent


def outermost(paths: Iterable[Path]) -> Iterator[Path]:
    """Without those that lie in another one, each once."""
    kept: list[Path] = []
    for path in sorted(set(paths)):
        if not any(path.is_relative_to(each) for each in kept):
            kept.append(path)
            yield path


def containers_conf(into: Path, paths: Iterable[Path]) -> str:
    """Podman's settings: all of its state in one folder, and what each container has mounted.

    Where the folder of `podman` has conmon, runc and a seccomp profile as well (pack-engine.sh),
    these are taken.
    """
    podman = shutil.which("podman")
    beside = Path(podman).parent if podman else into
    containers = {
        "volumes": [f"{path}:{path}:ro" for path in paths],
        "default_ulimits": list(own_limits()),
    }
    engine: dict[str, Any] = {
        "cgroup_manager": "cgroupfs",
        "events_logger": "file",
        "tmp_dir": str(into / "libpod"),
    }
    runtimes: dict[str, Any] = {}
    network: dict[str, Any] = {}
    if shutil.which("runc"):
        engine["runtime"] = "runc"
    if (beside / "seccomp.json").exists():
        containers["seccomp_profile"] = str(beside / "seccomp.json")
        engine["conmon_path"] = [str(beside / "conmon")]
        engine["runtime"] = "runc"
        runtimes["runc"] = [str(beside / "runc")]
        network["network_backend"] = "cni"  # else it looks for a program of the other one
    tables = {
        "containers": containers,
        "engine": engine,
        "engine.runtimes": runtimes,
        "network": network,
    }
    return "\n".join(line for name, table in tables.items() for line in toml(name, table)) + "\n"


def own_limits() -> Iterator[str]:
    """Podman asks for a million of each for root's containers, and may have fewer itself."""
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield f"nofile={files}:{files}"
    _, processes = resource.getrlimit(resource.RLIMIT_NPROC)
    numbers = int(Path("/proc/sys/kernel/pid_max").read_text())  # the kernel has no more
    most = numbers if processes == resource.RLIM_INFINITY else min(processes, numbers)
    yield f"nproc={most}:{most}"


def storage_conf(into: Path) -> str:
    """Plain folders (vfs): an image of empty folders needs no layers, and no file system more."""
    table = {
        "driver": "vfs",
        "graphroot": str(into / "storage"),
        "runroot": str(into / "run"),
    }
    return "\n".join(toml("storage", table)) + "\n"


def toml(name: str, table: dict[str, Any]) -> Iterator[str]:
    """A table of strings and lists of strings, which JSON writes as TOML does."""
    yield f"[{name}]"
    for key, value in table.items():
        yield f"{key} = {json.dumps(value)}"


def gpu_uuids() -> dict[int, str]:
    """The GPUs' UUIDs by their number; empty where there is no driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
    return {
        pynvml.nvmlDeviceGetMinorNumber(handle): pynvml.nvmlDeviceGetUUID(handle)
        for handle in handles
    }


def device_interface(uuids: dict[int, str], dev: Path) -> dict[str, Any]:
    """A specification of the Container Device Interface.

    `uuids`: by the number of /dev/nvidiaN. `dev`: where the devices are on this machine.
    """

    def nodes(*names: str) -> dict[str, Any]:
        return {
            "deviceNodes": [{"path": f"/dev/{name}", "hostPath": str(dev / name)} for name in names]
        }

    gpus = {uuid: nodes(f"nvidia{number}") for number, uuid in uuids.items()}
    edits = nodes(*SHARED, *([TOOLS] if (dev / TOOLS).exists() else []))
    if where := os.environ.get("LD_LIBRARY_PATH"):
        edits["env"] = [f"LD_LIBRARY_PATH={where}"]
    return {
        "cdiVersion": "0.5.0",
        "kind": "nvidia.com/gpu",
        "devices": [
            {"name": name, "containerEdits": each}
            for name, each in {
                **gpus,
                "all": nodes(*(f"nvidia{number}" for number in uuids)),
            }.items()
        ],
        "containerEdits": edits,
    }


if __name__ == "__main__":
    main(sys.argv[1])
