"""A bundle of published results, as this program makes it now; pictures that can be read back."""

import shutil
from pathlib import Path

import pytest

from bench.report.build import build_report
from bench.report.bundle import make_bundle
from tests.builders.pictures import Draw
from tests.builders.shared import ROOT
from tests.report.bundles import NAME, Members, unpacked


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real results folder of a few cells, with the report of this very program."""
    folder = Path(shutil.copytree(ROOT / "results" / NAME, tmp_path_factory.mktemp("from") / NAME))
    build_report([folder], folder / "report")
    return folder


@pytest.fixture
def results(source: Path, tmp_path: Path) -> Path:
    """A copy of it, to be changed."""
    return Path(shutil.copytree(source, tmp_path / NAME))


@pytest.fixture(scope="session")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("made") / "made.tar.gz"
    make_bundle([source], file)
    return file


@pytest.fixture(scope="session")
def members(made: Path) -> Members:
    """What tar itself reads from it."""
    return unpacked(made)


@pytest.fixture
def draw(monkeypatch: pytest.MonkeyPatch) -> Draw:
    return Draw(monkeypatch)
