"""Names that follow from content: which run, which arm, which code.

Two runs with the same `run_id` asked for the same thing, whoever named it and however.
"""

import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
PACKAGE = Path(__file__).resolve().parents[1]

# What a cell's process runs: a change in any of these may change a figure.
WORKER_FOLDERS = ("border", "models", "optim", "worker")

# What a program's cell runs of ours, beside the folder bench/program: nothing else reopens it.
OF_PROGRAMS = (
    *("border/atomic.py", "border/identity.py", "border/program.py", "border/surroundings.py"),
    "worker/protocol.py",
)


def digest(asked: dict[str, Any]) -> str:
    """12 hex digits (48 bits) of the SHA-256 over the canonical JSON of `asked`."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@cache
def code_sha256() -> str:
    """SHA-256 over the paths and bytes of all files that the worker runs."""
    return _sha256_of(
        file for folder in WORKER_FOLDERS for file in (PACKAGE / folder).rglob("*.py")
    )


@cache
def program_code_sha256() -> str:
    """The same of what runs and reads a program (bench/program)."""
    return _sha256_of(
        [*(PACKAGE / "program").rglob("*.py"), *(PACKAGE / name for name in OF_PROGRAMS)]
    )


def _sha256_of(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for file in sorted([PACKAGE / "__init__.py", *files]):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return total.hexdigest()
