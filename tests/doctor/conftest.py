"""Machines without an engine, with programs that say what a test wants."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def no_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose path holds neither docker nor podman; the folder that it holds."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.fixture
def program(no_engine: Path) -> Callable[[str, str], None]:
    """Puts a program on the path that prints a text, whatever it is asked."""

    def make(name: str, text: str) -> None:
        (no_engine / f"{name}.txt").write_text(text)
        script = no_engine / name
        script.write_text(f"#!/bin/sh\nexec /bin/cat '{script}.txt'\n")
        script.chmod(0o755)

    return make
