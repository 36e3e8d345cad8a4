"""A clock that is told when to move, and threads as other tests left them."""

import time
from collections.abc import Iterator

import pytest
import torch

from tests.builders.fake_time import FakeTime


@pytest.fixture(autouse=True)
def same_threads() -> Iterator[None]:
    """A cell sets torch's threads for its process; here it shares one with other tests."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fake_time(monkeypatch: pytest.MonkeyPatch) -> FakeTime:
    fake = FakeTime()
    monkeypatch.setattr(time, "monotonic", fake.monotonic)
    monkeypatch.setattr(time, "monotonic_ns", fake.monotonic_ns)
    return fake
