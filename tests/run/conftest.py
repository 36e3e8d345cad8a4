"""What the tests of faults ask for by name."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.builders.broken import Broken


@pytest.fixture
def broken(tmp_path: Path) -> Iterator[Broken]:
    copy = Broken(tmp_path)
    try:
        yield copy
        assert copy.left_running() == []
    finally:
        copy.close()
