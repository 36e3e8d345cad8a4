"""A benchmark harness whose conclusions hold: matrix in, one true row per cell out."""

import importlib
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`bench.load`, imported on use: neither a worker nor the commands need pandas."""
    if name == "load":
        return importlib.import_module("bench.report.frames").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
