"""Names that follow from content: which run, which arm, which code.

Two runs with the same `run_id` asked for the same thing, whoever named it and however.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA_VERSION = 1
PACKAGE = Path(__file__).resolve().parents[1]

# What a cell's process runs: a change in any of these may change a figure.
WORKER_FOLDERS = ("border", "models", "optim", "worker")


def digest(asked: dict[str, Any]) -> str:
    """12 hex digits (48 bits) of the SHA-256 over the canonical JSON of `asked`."""
    canonical = json.dumps(asked, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


@cache
def code_sha256() -> str:
    """SHA-256 over the paths and bytes of all files that the worker runs."""
    files = [PACKAGE / "__init__.py"]
    for folder in WORKER_FOLDERS:
        files += (PACKAGE / folder).rglob("*.py")
    total = hashlib.sha256()
    for file in sorted(files):
        content = hashlib.sha256(file.read_bytes()).hexdigest()
        total.update(f"{file.relative_to(PACKAGE).as_posix()} {content}\n".encode())
    return total.hexdigest()
