"""What tests ask for by name: a cache of their own, a tiny matrix, a container engine.

Where something is missing (an engine, a compiler, rights), the tests that need it skip and say so;
REQUIRE_ALL=1 makes that a failure.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.launch.engine import Engine
from tests.builders.containers import ENGINES, with_image
from tests.builders.shared import without, write_tiny_matrix

# Each test process has one thread for arithmetic; torch reads this as it is imported. Threads that
# wait for each other on CPUs that other test processes use made twenty steps take minutes.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def tiny_matrix(tmp_path: Path) -> Path:
    return write_tiny_matrix(tmp_path)


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The first engine that answers, with the CPU image."""
    answering = (name for name in ENGINES if Engine(name).why_not() is None)
    name = next(answering, None)
    return with_image(name) if name else without("no container engine answers")


@pytest.fixture(scope="session", params=ENGINES)
def each_engine(request: pytest.FixtureRequest) -> Engine:
    """Every engine in turn, with the CPU image: for what differs between them."""
    why_not = Engine(request.param).why_not()
    return (
        without(f"{request.param} does not answer: {why_not}")
        if why_not
        else with_image(request.param)
    )


@pytest.fixture(scope="session")
def gpu() -> None:
    """An NVIDIA GPU that torch computes on, in this process also by algorithms that repeat."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # torch reads it at a first product
    if shutil.which("nvidia-smi") is None:
        without("there is no nvidia-smi, and so no NVIDIA GPU")
    import torch

    if not torch.cuda.is_available():
        without("torch finds no usable GPU")


@pytest.fixture(params=["local", "container"])
def runtime(request: pytest.FixtureRequest) -> str:
    """Every way in which a cell can run; the container one only where an engine answers."""
    if request.param == "local":
        return "local"
    engine: Engine = request.getfixturevalue("engine")
    return engine.name


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., Any]:
    """Makes a `Results`, a results folder to be filled, by its name."""
    from tests.builders.results import Results  # pandas: a second that other rooms need not wait

    return lambda name="first": Results(tmp_path / name)
