"""A repository to clone, once for all of these tests."""

from pathlib import Path

import pytest

from tests.builders.clones import make_repository


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("origin") / "bench")


@pytest.fixture(scope="session")
def small_origin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Only what steps need whose `make` is a stand-in."""
    names = (
        "Makefile",
        ".ci/measure",
        "constraints.txt",
        "docker/constraints.txt",
        "pyproject.toml",
    )
    return make_repository(tmp_path_factory.mktemp("small") / "bench", names)
