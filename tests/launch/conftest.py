"""A job that a real engine runs, and the image that holds all."""

import os
import re
from pathlib import Path

import pytest

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.launch.engine import Engine
from bench.launch.job import Job
from bench.matrix.expansion import load_matrix
from bench.records.corpora import find_corpus
from tests.builders.shared import bench


@pytest.fixture(scope="session")
def engine(each_engine: Engine) -> Engine:
    """This room is about the engines: its tests run under each."""
    return each_engine


@pytest.fixture(scope="session")
def image(engine: Engine) -> str:
    """Its exact tag, built as `make image-cpu` builds it."""
    built = bench("image", "cpu", "--all-in-one", "--runtime", engine.name, timeout_s=1200)
    assert built.returncode == 0, built.stdout + built.stderr
    (tags,) = re.findall("^all in one: (.*)$", built.stdout, re.MULTILINE)
    exact, device, latest = tags.split(", ")
    assert (device, latest) == ("bench:cpu", "bench:latest")
    assert len({engine.image_id(tag) for tag in (exact, device, latest)}) == 1
    return str(exact)


@pytest.fixture
def once(engine: Engine) -> None:
    """For what is in the image, whichever engine runs it."""
    if engine.name != "docker" and Engine("docker").why_not() is None:
        pytest.skip("it is seen under Docker")


@pytest.fixture
def cell(tiny_matrix: Path, tmp_path: Path, engine: Engine) -> Job:
    """A real job, beside another cell's folder that it must not see."""
    matrix = load_matrix(tiny_matrix)
    corpus = find_corpus(matrix.corpus)
    spec = matrix.with_corpus(corpus.ref).cells[0].spec
    folder = tmp_path / "results" / "cells" / "abc-1"
    folder.mkdir(parents=True)
    (folder.parent / "other-1").mkdir()
    files = CellFiles(folder)
    files.spec.write_text(spec.to_json())
    cpu = max(os.sched_getaffinity(0))
    return Job(spec, Limits(timeout_s=60.0, cpus=1), files, corpus.for_cells(), (cpu,), ())
