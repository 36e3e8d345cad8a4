"""Tests of what a device computes run on a CPU too, in `make test`; on a GPU in `make test-gpu`.

On a CPU a CUDA graph is one of tests/builders/recorded.py: calls of PyTorch, recorded and repeated.
"""

from collections.abc import Iterator

import pytest
import torch

from tests.builders.recorded import recorded_graphs
from tests.gpu.timing import as_in_cells


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of a device whose steps can be captured as graphs."""
    if request.param == "cuda":
        request.getfixturevalue("gpu")
        as_in_cells("cuda")
        yield "cuda"
    else:
        with recorded_graphs():
            yield "cpu"


@pytest.fixture(autouse=True)
def same_settings() -> Iterator[None]:
    """A cell sets how its process computes; here it shares one with other tests."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    torch.use_deterministic_algorithms(False)
