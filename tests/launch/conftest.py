"""A job that a real engine runs."""

import os
from pathlib import Path

import pytest

from bench.border.options import Limits
from bench.border.spec import CellFiles
from bench.launch.engine import Engine
from bench.launch.job import Job
from bench.matrix.expansion import load_matrix
from bench.records.corpora import find_corpus


@pytest.fixture(scope="session")
def engine(each_engine: Engine) -> Engine:
    """This room is about the engines: its tests run under each."""
    return each_engine


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
