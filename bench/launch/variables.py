"""The variables of a local worker: made from a short list, so that the caller's do not leak in."""

import os
import tempfile
from pathlib import Path

from bench.border.identity import PACKAGE
from bench.border.surroundings import CHANGING, worker_environment

# Where Debian's commands are; that of the cell's own Python comes before.
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def local_environment(threads: int, gpus: str = "") -> dict[str, str]:
    """All that a local worker finds set. `gpus`: the UUIDs of those it may use, with commas."""
    return {
        "PATH": os.environ.get("PATH") or os.defpath,
        "HOME": _home(),
        "TMPDIR": tempfile.gettempdir(),  # one that is there
        **changing(),
        **worker_environment(threads),
        "PYTHONPATH": str(PACKAGE.parent),
        "CUDA_VISIBLE_DEVICES": gpus,
    }


def of_program(home: Path) -> dict[str, str]:
    """What a program finds in place of the caller's: else these would decide what it runs."""
    return {"PATH": SYSTEM_PATH, "HOME": str(home)}


def changing() -> dict[str, str]:
    """Those of the caller's that reach a worker although they may change what it computes."""
    return {name: value for name in CHANGING if (value := os.environ.get(name))}


def _home() -> str:
    """Where compilers keep caches: the user's folder, or or that for temporary files."""
    home = os.path.expanduser("~")
    usable = os.path.isdir(home) and os.access(home, os.W_OK)
    return os.path.abspath(home) if usable else tempfile.gettempdir()
