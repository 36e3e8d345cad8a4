"""Two versions for each test of a comparison."""

from pathlib import Path

import pytest

from tests.builders.sides import Sides


@pytest.fixture
def sides(tmp_path: Path) -> Sides:
    return Sides(tmp_path)
