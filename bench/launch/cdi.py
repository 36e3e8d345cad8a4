"""A GPU's way into a container: Docker's own `--gpus`, or a name of the Container Device Interface.

Such names are made by NVIDIA's container toolkit, in specification files or for Docker to discover.
Which it makes is a setting (`nvidia-ctk cdi generate --device-name-strategy`): a name is taken from
what is listed, never made up.

Sources: the CDI specification (https://github.com/cncf-tags/container-device-interface);
https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/cdi-support.html
"""

import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from bench.errors import MissingError

KIND = "nvidia.com/gpu"
FOLDERS = (Path("/etc/cdi"), Path("/var/run/cdi"))
HOOK = "nvidia-container-runtime-hook"  # serves `--gpus` also where Docker has no runtime nvidia
GENERATE = "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml"
CONFIGURE = "nvidia-ctk runtime configure --runtime=docker, then restart docker"

FindIndex = Callable[[str], str | None]  # uuid -> "1", or "1:0" of a MIG instance
IsOnly = Callable[[str], bool]  # uuid -> whether the machine has this GPU and no other


def podman_words(
    uuids: Iterable[str],
    find_index: FindIndex,
    is_only: IsOnly,
    folders: Iterable[Path] = FOLDERS,
) -> list[str]:
    """The words of `podman run` that bring these GPUs in.

    Raises:
        MissingError: if no specification names one; with what is listed, what could not be read,
            and the remedy.
    """
    names, unread = specified(folders)
    try:
        found = [device(each, names, find_index, is_only, "podman", GENERATE) for each in uuids]
    except MissingError as error:
        raise MissingError(". ".join([str(error), *unread])) from error
    return [word for each in found for word in ("--device", each)]


def docker_words(
    uuids: Iterable[str], find_index: FindIndex, is_only: IsOnly, info: Mapping[str, Any]
) -> list[str]:
    """The words of `docker run` that bring these GPUs in. `info`: what `docker info` tells.

    Raises:
        MissingError: if Docker has no way to one; with what it lists, and the remedy.
    """
    if "nvidia" in (info.get("Runtimes") or {}) or shutil.which(HOOK):
        asked = f"device={','.join(uuids)}"
        return ["--gpus", f'"{asked}"' if "," in asked else asked]  # it is read as a line of CSV
    names = discovered(info)
    found = [device(each, names, find_index, is_only, "docker", CONFIGURE) for each in uuids]
    return [word for each in found for word in ("--device", each)]


def specified(folders: Iterable[Path]) -> tuple[list[str], list[str]]:
    """The names of NVIDIA's GPUs in the specification files of these folders; which file is none.

    Other vendors' files lie there as well, and what is wrong with one stops no GPU of another.
    """
    names: list[str] = []
    unread: list[str] = []
    for file in sorted(file for folder in folders for file in folder.glob("*")):
        if file.suffix in (".json", ".yaml", ".yml"):
            try:
                names += _names(file)
            except (OSError, ValueError, yaml.YAMLError, TypeError, KeyError) as error:
                why = " ".join(str(error).split())
                unread.append(f"{file} is no specification of CDI that can be read ({why})")
    return names, unread


def _names(file: Path) -> list[str]:
    text = file.read_text(encoding="utf-8")
    if KIND not in text:
        return []
    spec = json.loads(text) if file.suffix == ".json" else yaml.safe_load(text)
    return [str(each["name"]) for each in spec["devices"]] if spec["kind"] == KIND else []


def discovered(info: Mapping[str, Any]) -> list[str]:
    """The names of NVIDIA's GPUs that Docker found, which it tells since version 28.2."""
    found = (each.get("ID", "").partition("=") for each in info.get("DiscoveredDevices") or [])
    return [name for kind, _, name in found if kind == KIND]


def device(
    uuid: str,
    names: Sequence[str],
    find_index: FindIndex,
    is_only: IsOnly,
    engine: str,
    remedy: str,
) -> str:
    """KIND=NAME of a GPU, or of an instance of one: by its UUID, else by its number.

    Where there are UUIDs and this one is not among them, the list is not of this machine as it is
    now, and its numbers are not trusted either. Windows' subsystem for Linux lists `all` alone.

    Raises:
        MissingError: if it is not listed.
    """
    beginning = uuid.partition("-")[0] + "-"  # GPU- or MIG-
    if uuid in names:
        return f"{KIND}={uuid}"
    by_uuid = any(name.startswith(beginning) for name in names)
    if names and not by_uuid and (index := find_index(uuid)):
        of_type = f"mig{index}" if ":" in index else f"gpu{index}"
        for name in (index, of_type):
            if name in names:
                return f"{KIND}={name}"
    if set(names) == {"all"} and is_only(uuid):
        return f"{KIND}=all"
    if not names:
        raise MissingError(
            f"{engine} has no way to a GPU. Install nvidia-container-toolkit; {remedy}"
        )
    listed = ", ".join(f"{KIND}={name}" for name in names)
    raise MissingError(
        f"{engine} has no name for the GPU {uuid}: listed are {listed}. List it anew: {GENERATE} "
        "--device-name-strategy=uuid"
    )
