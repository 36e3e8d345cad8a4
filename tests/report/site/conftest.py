"""Bundles from which a site is made, and the site."""

import shutil
from pathlib import Path

import pytest

from bench.report.site.build import build_site
from tests.builders.sites import made_up


@pytest.fixture(scope="session")
def fifty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A site of fifty bundles with three regressions; nobody may change it."""
    out = tmp_path_factory.mktemp("fifty") / "site"
    made_up(out, tmp_path_factory.mktemp("results"))
    build_site(out, [], None, "https://example.org/who/bench", print)
    return out


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles of a site of four, from which none was made yet."""
    out = tmp_path_factory.mktemp("few") / "site"
    made_up(out, tmp_path_factory.mktemp("results"), count=4, elsewhere=())
    return out


@pytest.fixture
def out(few: Path, tmp_path: Path) -> Path:
    """A copy of these, to be changed."""
    return Path(shutil.copytree(few, tmp_path / "site"))
