"""Which machine this is, and which commit of this program runs on it."""

import hashlib
import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.border.identity import PACKAGE
from bench.measure.gpus import Gpus, find_gpus
from bench.measure.room import Room, this_room

# Keeps a published host_id from being looked up in a list of hashed machine ids.
SALT = "bench host"


@dataclass(frozen=True)
class Machine:
    """What the cells of one run share, for their rows and for telling what is settled."""

    host_id: str
    cpu_model: str | None
    room: Room
    gpus: Gpus
    git_commit: str | None
    git_dirty: bool | None


def this_machine() -> Machine:
    gpus = find_gpus()
    commit, dirty = _git()
    return Machine(_host_id(), _cpu_model(), this_room(), gpus, commit, dirty)


def _cpu_model() -> str | None:
    """The processor as the kernel names it, None where it does not say."""
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or None


def _host_id() -> str:
    """12 hex digits that are the same for the same machine with the same hardware.

    Its GPUs are not among it: NVML may lose one, and the machine stays the same. Rows name theirs.
    """
    machine = Path("/etc/machine-id")
    name = machine.read_text().strip() if machine.exists() else ""
    hardware = [
        name or platform.node(),
        _cpu_model(),
        os.cpu_count(),
        round(psutil.virtual_memory().total / 2**30),  # kernels differ in what they keep back
    ]
    text = "\0".join(str(part) for part in (SALT, *hardware))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _git() -> tuple[str | None, bool | None]:
    """The working tree's commit, and whether tracked files differ from it."""
    commit, changes = _ask_git("rev-parse", "HEAD"), _ask_git("status", "--porcelain", "-uno")
    return commit, None if changes is None else bool(changes)


def _ask_git(*arguments: str) -> str | None:
    """Git's answer about our own files, None where they are in no working tree of git."""
    try:
        command = ["git", "-C", str(PACKAGE), *arguments]
        answer = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return None
    return answer.stdout.strip() if answer.returncode == 0 else None
