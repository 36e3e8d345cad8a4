"""Two versions for each test of a comparison, and revisions to make them of."""

from pathlib import Path

import pytest

from tests.builders.revisions import make_repository
from tests.builders.sides import Sides


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_repository(tmp_path_factory.mktemp("repository"))
